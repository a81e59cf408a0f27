//! Models of what must hold in every interleaving: [`lock`] of the exporter's lock, and [`detach`] of how a tree is
//! taken out of reach and removed.
//!
//! They must not use the program: they say what its steps achieve, and what each of them is for.

mod detach;
mod lock;
