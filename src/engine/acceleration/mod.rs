//! Runs SavedModels with a faster engine, where its answers are the same.
