//! The TLS listener over HTTP/1.1, and what it has in common with the others.

mod alike;
mod hostile;
mod listener;
mod tunnels;

const TARGET: &str = "good.example:443";
const CONNECT: &str = "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n";
const OPEN: &str = "ccpgate_client_connections{listener=\"https\"}";
