//! What an agent's browser does on the network, as a client: it goes straight, the way that the proxy
//! itself goes, or through a proxy; it speaks TLS, HTTP and WebSocket, and asks media
//! endpoints over UDP. Nothing here says what an outcome means.

pub(crate) mod certificate;
pub(crate) mod fetch;
mod h2;
pub(crate) mod hops;
pub(crate) mod http;
pub(crate) mod io;
pub(crate) mod route;
pub mod stun;
pub(crate) mod tap;
pub(crate) mod tls;
pub(crate) mod turn;
pub(crate) mod way;
pub(crate) mod websocket;
