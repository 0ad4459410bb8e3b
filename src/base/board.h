/* What a GPU board tells of itself through NVIDIA's management library: the energy it has taken, its clock and the
 * memory in use. The library is looked for at run time, so programs don't depend on it, and asking it makes no context
 * on the GPU. */
#ifndef PSANN_BASE_BOARD_H
#define PSANN_BASE_BOARD_H

typedef struct board board;

/* The board at that PCI address; NULL where the library or the GPU is not there. */
board *board_open(const char *pci_address);
void board_close(board *b);

/* Joules since the driver was loaded; NaN when they can't be told, or b is NULL. The counter moves some ten times a
 * second. */
double board_joules(const board *b);

/* MHz of its multiprocessors at this moment, which a power limit lowers; NaN when they can't be told, or b is NULL. */
double board_sm_mhz(const board *b);

/* Bytes of its memory that are in use, by anyone; NaN when they can't be told, or b is NULL. */
double board_memory_used(const board *b);

#endif
