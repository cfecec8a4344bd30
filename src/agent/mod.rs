//! What an agent's browser does on the network, as a client: it goes straight, the way that the proxy
//! itself goes, or through a proxy; it speaks TLS, HTTP and WebSocket. Nothing here says what an outcome means.

pub(crate) mod certificate;
pub(crate) mod http;
pub(crate) mod route;
pub(crate) mod tap;
pub(crate) mod tls;
pub(crate) mod websocket;
