/* gal-sponsor: the supervisor of the organization that has the label. */
#include "common/supervise.h"

int main(int argc, char **argv)
{
    return supervise_main(argc, argv, CONF_SPONSOR);
}
