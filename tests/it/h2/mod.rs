//! HTTP/2 on the TLS listener: every stream is a tunnel that begins, ends and stalls alone, and no
//! flood of frames takes more than its own connection with it.

mod ends;
mod floods;
mod hello;
mod requests;
mod tunnels;

use crate::support::Proxy;
use crate::support::h2::header_block;

const TARGET: &str = "good.example:443";
const OPEN: &str = "ccpgate_client_connections{listener=\"https\"}";

fn active(proxy: &Proxy) -> f64 {
    proxy.metric("ccpgate_tunnels_active{domain=\"good.example\",category=\"extra\"}")
}

fn connect_block() -> Vec<u8> {
    header_block(&[(":method", "CONNECT"), (":authority", TARGET)])
}
