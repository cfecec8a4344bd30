//! The admin listener, served by hyper: metrics, probes, the PAC file, the status. Nothing here
//! changes anything.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::net::accept::Setbacks;
use crate::net::entrance::Entrance;
use crate::proxy::answer::PAC_TYPE;
use crate::proxy::listener::Stop;
use crate::proxy::routes::readiness;
use crate::proxy::shared::Shared;
use crate::target;

/// Scrapers, probes and a few people; a flood of them must not take descriptors from tunnels.
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin listener shows.
pub struct Admin {
    pub shared: Arc<Shared>,
    pub started: Instant,
}

type Answer = Response<Full<Bytes>>;

/// Serves until `stop`.
pub async fn serve(listener: StdListener, admin: Arc<Admin>, stop: Stop) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "can't watch the admin listener"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut setbacks = Setbacks::default();
    loop {
        // With all places taken, the next wait in the queue.
        let free = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.told() => return,
            free = free => free,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                admin.shared.metrics.accept_errors[Entrance::Admin as usize].inc();
                setbacks.pause(&error, "admin").await;
                continue;
            }
        };
        setbacks.over();
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = admin.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A scraper that goes away half-way is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(32 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let route = target::path(request.uri().path_and_query().map_or("/", |p| p.as_str()));
        let known = ["/", "/metrics", "/healthz", "/readyz", "/proxy.pac", "/api/status"];
        if !known.contains(&route) {
            return text(
                StatusCode::NOT_FOUND,
                format!("ccpgate: nothing here; there is {}\n", known.join(" ")),
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "ccpgate: only GET and HEAD\n".into());
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if matches!(route, "/" | "/api/status") && !self.knows_host(request) {
            let told = "ccpgate: this page answers for IP addresses, localhost and admin.hosts only\n";
            return text(StatusCode::FORBIDDEN, told.into());
        }
        match route {
            "/metrics" => {
                let body = self.shared.metrics.render();
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body.into())
            }
            "/healthz" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" => {
                let (ready, said) = readiness(&self.shared);
                text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, said.into())
            }
            "/proxy.pac" => match self.shared.snapshot().standing_pac() {
                Ok(pac) => typed(StatusCode::OK, PAC_TYPE, pac.into()),
                Err(why) => text(StatusCode::CONFLICT, format!("ccpgate: {why}\n")),
            },
            "/api/status" => typed(StatusCode::OK, "application/json", self.status().to_string().into()),
            _ => self.page(),
        }
    }

    fn knows_host(&self, request: &Request<Incoming>) -> bool {
        let Some(host) = request.headers().get(header::HOST) else { return true };
        let Ok(host) = host.to_str() else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.shared.snapshot().admin_hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
    }

    fn status(&self) -> serde_json::Value {
        let snapshot = self.shared.snapshot();
        serde_json::json!({
            "version": crate::VERSION,
            "commit": crate::COMMIT,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "draining": self.shared.drain.is_leaving(),
            "config": snapshot.source,
            "last_reload_successful": self.shared.metrics.reload_successful.get() == 1,
            "tls_files_last_load_successful": self.shared.metrics.tls_files_successful.get() == 1,
            "mode": if snapshot.report { "report" } else { "enforce" },
            "rules": snapshot.policy.rules().len(),
            "client_connections": self.shared.metrics.client_connections.iter().map(|g| g.get()).sum::<i64>(),
            "busy": self.shared.busy_now(),
        })
    }

    fn page(&self) -> Answer {
        let links = ["/metrics", "/healthz", "/readyz", "/proxy.pac", "/api/status"]
            .map(|to| format!("<li><a href=\"{to}\">{to}</a></li>"))
            .concat();
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>ccpgate</title>\
             <h1>ccpgate {}</h1><ul>{links}</ul></html>\n",
            crate::VERSION
        );
        let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", page.into());
        let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        answer
    }
}

fn text(status: StatusCode, body: String) -> Answer {
    typed(status, "text/plain; charset=utf-8", body.into())
}

fn typed(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
