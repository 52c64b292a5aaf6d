/* gal-assistor: the supervisor of an organization that helps with its own columns. */
#include "common/supervise.h"

int main(int argc, char **argv)
{
    return supervise_main(argc, argv, CONF_ASSISTOR);
}
