//! Treats denormal numbers as zero during a run.
//!
//! TensorFlow does so on the threads of its own pools, because computing with denormals is up to a hundred times
//! slower; a run in the caller's thread must give the same results, so the mode is set around it.

#![allow(unsafe_code)]

/// Sets the mode until dropped.
pub(super) struct Flushed {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    before: u64,
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    /// Flush to zero (bit 15) and denormals are zero (bit 6) of MXCSR.
    pub(super) const FLUSH: u64 = 1 << 15 | 1 << 6;

    pub(super) fn read() -> u64 {
        let mut value = 0u32;
        // SAFETY: writes the control register's four bytes to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        u64::from(value)
    }

    pub(super) fn write(value: u64) {
        // The register has 32 bits; `value` came from it.
        #[allow(clippy::cast_possible_truncation)]
        let value = value as u32;
        // SAFETY: the value differs only in the two defined mode bits from one that the processor returned; no Rust
        // code computes with floats while it is set: only the call into TensorFlow lies between set and reset.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    /// Flush to zero, bit 24 of FPCR.
    pub(super) const FLUSH: u64 = 1 << 24;

    pub(super) fn read() -> u64 {
        let value;
        // SAFETY: reads the control register.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: u64) {
        // SAFETY: as on x86-64: one defined mode bit differs, and no Rust code computes with floats meanwhile.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Flushed {
    pub(super) fn set() -> Flushed {
        let before = register::read();
        register::write(before | register::FLUSH);
        Flushed { before }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Drop for Flushed {
    fn drop(&mut self) {
        register::write(self.before);
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Flushed {
    pub(super) fn set() -> Flushed {
        Flushed {}
    }
}

#[cfg(test)]
mod tests {
    use super::Flushed;
    use std::hint::black_box;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn the_mode_lasts_as_long_as_its_guard() {
        let tiny = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert!(tiny() > 0.0);
        let guard = Flushed::set();
        let flushed = tiny();
        drop(guard);
        assert_eq!(flushed, 0.0);
        assert!(tiny() > 0.0);
    }
}
