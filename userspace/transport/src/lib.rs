//! Sockets inside network namespaces, sock_diag.
