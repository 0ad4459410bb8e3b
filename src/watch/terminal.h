/* Ctrl-C under mpirun. The terminal sends SIGINT to its foreground process group, which is mpirun's: mpirun then gives
 * the ranks one second and ends with a failure. That is too little for a checkpoint. So rank 0, when it shares mpirun's
 * terminal, makes its own process group the foreground: Ctrl-C then reaches rank 0 alone, all ranks agree to stop, and
 * mpirun ends with 0.
 *
 * mpirun, now in the background, would be suspended by the system if it read the keyboard; so while rank 0 has the
 * terminal, no key completes a line. A guard process puts everything back should rank 0 die. */
#ifndef PSANN_WATCH_TERMINAL_H
#define PSANN_WATCH_TERMINAL_H

#include <stdbool.h>

/* Does nothing when there is no controlling terminal, when this process is not the child of an mpirun in the terminal's
 * foreground, or when something goes wrong. Returns whether it took the terminal. */
bool terminal_take(void);

/* Undoes it; async-signal-safe, and harmless when nothing was taken. */
void terminal_give_back(void);

#endif
