//! Tests of the gate and the cut.

mod builder;
mod checks;
mod cuts;
mod gates;
mod models;
mod random;
mod rows;
