/* gal: Algorithm 1 of "Gradient Assisted Learning for Decentralized Multi-Organization Collaborations" (Diao,
 * Ding, Tarokh, NeurIPS 2022, arXiv:2106.01425), line by line. Comments that are a line of the algorithm are
 * those of docs/ALGORITHM.md, and `make check-source` compares them. No sockets, no waiting, no files: those
 * are in peers and run. */
#include "sponsor/gal.h"

#include <time.h>

#include "common/log.h"
#include "sponsor/step.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int gal_train(struct run *run, struct peers *p, struct store *store,
              void (*tell)(const struct run *, struct peers *))
{
    struct step s;
    uint8_t commitment[DIGEST_BYTES];
    if (step_init(&s, run) < 0)
        log_die(1, "out of memory for %zu organizations of %zu×%u values", run->M, run->F.n, run->K);
    while (!run_over(run, peers_deterministic(p))) {
        uint32_t t = run->t + 1;
        double begun = seconds();
        uint64_t out = p->bytes_out, in = p->bytes_in;
        /* r^t ← −∂L(y, F)/∂F at F = F^{t−1} */
        loss_residual(run->L, run->y, &run->F, &s.r);
        /* broadcast r^t to the organizations */
        peers_broadcast(p, run, t, &s.r);
        /* f_m^t ← argmin over f ∈ 𝓕_m of E_N ℓ_m(r^t, f(x_m)), all m at once */
        /* gather f_m^t(x_m) */
        if (peers_gather(p, s.f, s.absent, 0) < 0)
            break;
        /* w^t  ← argmin over w ∈ Δ_M of E_N ℓ_1(r^t, Σ_m w_m f_m^t(x_m)) */
        step_weights(&s, run);
        /* η^t  ← argmin over η ≥ 0 of E_N L(y, F^{t−1} + η Σ_m w_m f_m^t(x_m)) */
        double eta = step_rate(&s, run);
        /* F^t  ← F^{t−1} + η^t Σ_m w_m^t f_m^t(x_m) */
        step_update(&s, run, eta);
        run_capture(store, run, s.f, s.absent);
        run_commit(store, run, s.w, eta, seconds() - begun, p->bytes_out - out, p->bytes_in - in, commitment);
        peers_settle(p, run, t, commitment);
        tell(run, p);
    }
    step_free(&s);
    return *p->failure ? -1 : 0;
}
