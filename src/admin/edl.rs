//! The listeners of `[edl]`: the lists alone, over HTTPS where there is a certificate, for machines of
//! `edl.clients`, and users where there are some.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use ipnet::IpNet;
use rustls::ServerConfig;

use super::http::{self, Answer, text};
use super::lists::{Asked, Lists, who};
use super::query::Query;
use super::users::Users;
use crate::journal::metrics::Metrics;
use crate::net::entrance::Entrance;
use crate::proxy::listener::Stop;
use crate::target;

/// Who may fetch, and how.
#[derive(Clone, Default)]
pub(crate) struct Door {
    pub clients: Vec<IpNet>,
    pub users: Option<Arc<Users>>,
    pub tls: Option<Arc<ServerConfig>>,
}

/// Serves until `stop`. A door that is put in force counts from the next connection on.
pub(crate) async fn serve(
    listener: StdListener,
    door: Arc<ArcSwap<Door>>,
    lists: Arc<Lists>,
    metrics: Arc<Metrics>,
    stop: Stop,
) {
    let accept_failed = || metrics.accept_errors[Entrance::Edl as usize].inc();
    let secure = || door.load().tls.clone();
    let (at, lists) = (door.clone(), lists.clone());
    let answer = move |request, peer| answer(at.load_full(), lists.clone(), request, peer);
    http::serve(listener, Entrance::Edl.into_str(), accept_failed, secure, answer, stop).await;
}

async fn answer(door: Arc<Door>, lists: Arc<Lists>, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let address = peer.ip().to_canonical();
    let path = target::path(request.uri().path_and_query().map_or("/", |p| p.as_str()));
    if !door.clients.iter().any(|network| network.contains(&address)) {
        lists.turned_away(path, StatusCode::FORBIDDEN);
        return text(StatusCode::FORBIDDEN, format!("ccpgate: {address} isn't in edl.clients\n"));
    }
    let mut user = None;
    if let Some(users) = &door.users {
        if let Some(field) = request.headers().get(header::AUTHORIZATION) {
            user = users.clone().judge(field.as_bytes()).await;
        }
        if user.is_none() {
            lists.turned_away(path, StatusCode::UNAUTHORIZED);
            let mut answer = text(StatusCode::UNAUTHORIZED, "ccpgate: a user of edl.users is asked for\n");
            let challenge = HeaderValue::from_static("Basic realm=\"ccpgate\", charset=\"UTF-8\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return answer;
        }
    }
    let asked = Asked { method: request.method(), headers: request.headers() };
    let query = Query(request.uri().query().unwrap_or_default());
    lists.answer(path, query, &asked, who(address, user, request.headers()))
}
