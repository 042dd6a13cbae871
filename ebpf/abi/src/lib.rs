//! Every byte that the eBPF programs and user space both read.
