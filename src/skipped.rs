//! Tests that need what lies beside the checkout, or TensorFlow, say why they do nothing without it.

/// Says that a test does nothing, and why. Where `SERVABLE_REQUIRE_SHARED` is set, as in CI, that is a failure.
///
/// # Panics
/// See above.
pub(crate) fn because(reason: impl std::fmt::Display) {
    assert!(
        std::env::var_os("SERVABLE_REQUIRE_SHARED").is_none(),
        "would be skipped, but SERVABLE_REQUIRE_SHARED is set: {reason}"
    );
    println!("skipped: {reason}");
}
