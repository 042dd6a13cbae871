//! End-to-end and conformance tests on the real kernel.
