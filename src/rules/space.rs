//! How full a file system is: plain data.
//!
//! This module must not ask the system; `fs` fills it in.

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub bytes: u64,
    /// The bytes in use.
    pub bytes_used: u64,
    /// The bytes that users other than root can still write: fewer than are free, where some are reserved.
    pub bytes_available: u64,
    /// The number of inodes that it can have; 0 where there is no limit.
    pub inodes: u64,
    /// The number of inodes in use.
    pub inodes_used: u64,
}

/// Bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Amount {
    /// Whether there is nothing of either.
    pub const fn is_zero(self) -> bool {
        self.bytes == 0 && self.inodes == 0
    }

    /// Both sums.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { bytes, inodes: self.inodes.saturating_add(other.inodes) }
    }

    /// What is left of each when `other` is taken away.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Self { bytes, inodes: self.inodes.saturating_sub(other.inodes) }
    }

    /// The lesser of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), inodes: self.inodes.min(other.inodes) }
    }

    /// Whether neither is less than in `other`.
    pub const fn covers(self, other: Self) -> bool {
        self.bytes >= other.bytes && self.inodes >= other.inodes
    }
}

impl Space {
    /// What shares are shares of, as in `df`: the bytes in use and those that can still be written.
    pub const fn usable(&self) -> u64 {
        self.bytes_used.saturating_add(self.bytes_available)
    }

    /// As it is when `freed` is free. While no space is available, it is not known how much is reserved; then
    /// everything that is free now counts as reserved.
    #[must_use]
    pub fn without(&self, freed: Amount) -> Self {
        self.without_but(freed, 0)
    }

    /// The same, where the first `reserved` bytes that become free belong to the reserved space.
    #[must_use]
    pub fn without_but(&self, freed: Amount, reserved: u64) -> Self {
        let bytes = freed.bytes.min(self.bytes_used);
        let available = bytes.saturating_sub(reserved);
        Self {
            bytes_used: self.bytes_used - bytes,
            bytes_available: self.bytes_available.saturating_add(available),
            inodes_used: self.inodes_used.saturating_sub(freed.inodes),
            ..*self
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file system of so many bytes without any reserve, that does not count inodes.
    pub(crate) const fn space(bytes: u64, bytes_used: u64) -> Space {
        Space { bytes, bytes_used, bytes_available: bytes - bytes_used, inodes: 0, inodes_used: 0 }
    }
}
