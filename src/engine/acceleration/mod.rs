//! Runs SavedModels with a faster engine, where its answers are the same.

mod attributes;
mod cut;
mod gate;
mod graph;
mod operations;
mod parts;
mod refusal;
mod types;

#[cfg(test)]
mod tests;
