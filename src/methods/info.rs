//! Model status and metadata, from the registry.
