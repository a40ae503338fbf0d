//! Protocols that bring access units.
