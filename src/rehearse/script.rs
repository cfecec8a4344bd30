//! What a call is here: with whom, over which way, and how much of it can be had.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::pace::Pace;
use crate::agent::route::Route;
use crate::agent::tls::Trust;
use crate::agent::way::Way;
use crate::catalogue::Choice;
use crate::diagnose::Network;
use crate::diagnose::targets::{self, Endpoint, Named, Plan, Wanted, WebSocketUrl};
use crate::egress::Egress;
use crate::egress::own::Own;
use crate::policy::{Category, Policy};
use crate::target::Target;

/// Everything that calls are played with.
pub(crate) struct Scene {
    pub policy: Policy,
    pub connect: Choice,
    pub egress: Egress,
    pub own: Own,
    /// The way through the proxy that everything but media goes through, of which each call takes a browser's own;
    /// none: the way of `egress`.
    pub via: Option<Way>,
    pub trust: Arc<Trust>,
    pub cast: Cast,
    /// None: signing in is needed for the rest, and nobody does.
    pub signalling: Option<Signalling>,
    /// None where the other side is this very process.
    pub pace: Option<Pace>,
    /// How long a call lasts once it is connected; it has a heartbeat all the while.
    pub hold: Duration,
}

impl Scene {
    /// What a test of one endpoint is made with, by this way.
    pub(super) fn network<'a>(&'a self, route: Route<'a>) -> Network<'a> {
        Network {
            policy: &self.policy,
            connect: &self.connect,
            route,
            trust: self.trust.clone(),
            clock: &SystemTime::now,
        }
    }
}

/// Where the calls' WebSockets are, and what may be said there.
pub(crate) struct Signalling {
    /// The address for a call of this number.
    pub url: Box<dyn Fn(u32) -> WebSocketUrl + Send + Sync>,
    /// Whether it is simulated: then messages of a call's sizes are sent, else heartbeats alone, for the
    /// service might end a WebSocket over what it doesn't know.
    pub simulated: bool,
}

/// The endpoints that calls use. Each call takes one of each kind, in turns.
#[derive(Default)]
pub(crate) struct Cast {
    pub files: Vec<Endpoint>,
    /// The instance's own host, where one is configured.
    pub api: Vec<Endpoint>,
    /// Asked for an upgrade that they may refuse; used without a login alone.
    pub transport: Vec<Endpoint>,
    pub telecom: Vec<Endpoint>,
    pub media: Vec<Target>,
}

impl Cast {
    /// Those of a list that have a name of their own, and these hosts.
    ///
    /// # Errors
    /// When one of these hosts isn't let through, or no call needs it.
    pub(crate) fn of(policy: &Policy, connect: &Choice, hosts: &[Named]) -> Result<Self, String> {
        let wanted = Wanted { hosts, web_socket: None, categories: &[] };
        let mut cast = Self::default();
        let mut login = Vec::new();
        for endpoint in targets::endpoints(policy, connect, &wanted) {
            if let Plan::Udp(target) = &endpoint.plan {
                cast.media.push(target.clone());
            }
            // Under the domain that AWS replaced, instances of today have no name.
            let replaced = endpoint.instance.as_ref().is_some_and(|instance| instance.replaced);
            let named = hosts.iter().any(|host| host.names(&endpoint));
            match &endpoint.plan {
                Plan::Untested(why) if named => return Err(format!("{}: {why}", endpoint.host)),
                Plan::Tcp(_) if named || !(replaced || endpoint.added) => {}
                _ => continue,
            }
            match endpoint.category {
                Category::Login if endpoint.instance.is_some() => cast.api.push(endpoint),
                Category::Login => login.push(endpoint),
                Category::Static => cast.files.push(endpoint),
                Category::Signalling => cast.transport.push(endpoint),
                Category::Telecom => cast.telecom.push(endpoint),
                category if named => {
                    let category = category.as_str();
                    return Err(format!(
                        "{}: no call needs a host of the category {category}",
                        endpoint.host
                    ));
                }
                Category::Api
                | Category::Chat
                | Category::Attachments
                | Category::Media
                | Category::Extra => {}
            }
        }
        if cast.api.is_empty() {
            cast.api = login;
        }
        Ok(cast)
    }

    /// Whether there is nobody to call.
    pub(crate) fn is_empty(&self) -> bool {
        let tcp = [&self.files, &self.api, &self.transport, &self.telecom];
        self.media.is_empty() && tcp.iter().all(|endpoints| endpoints.is_empty())
    }
}

/// Whose turn it is.
pub(super) fn in_turn<T>(all: &[T], number: u32) -> Option<&T> {
    all.get(number as usize % all.len().max(1))
}
