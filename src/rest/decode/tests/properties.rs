//! Properties: against serde_json, against hostile texts.
