//! Skipping of tests that need TensorFlow or files beside the checkout.

/// Prints that a test is skipped, and the reason.
///
/// # Panics
/// If `SERVABLE_REQUIRE_SHARED` is set, as in CI: a skipped test is then a failure.
pub(crate) fn because(reason: impl std::fmt::Display) {
    assert!(
        std::env::var_os("SERVABLE_REQUIRE_SHARED").is_none(),
        "would be skipped, but SERVABLE_REQUIRE_SHARED is set: {reason}"
    );
    println!("skipped: {reason}");
}
