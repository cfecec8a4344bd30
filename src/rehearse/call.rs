//! One call, phase by phase up to its first failure. All of it is bounded in time, whatever the far side
//! does.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::try_join;
use tokio::time::timeout;

use super::phase::Phase;
use super::script::{Scene, Signalling, in_turn};
use super::voice::{self, Heard};
use crate::agent::http::{self, Answer, NoAnswer};
use crate::agent::route::Route;
use crate::agent::tap::Tap;
use crate::agent::tls::{Session, Stream};
use crate::agent::way::Way;
use crate::agent::websocket::{Cut, WebSocket};
use crate::cause::{Cause, Severity};
use crate::diagnose;
use crate::diagnose::answer;
use crate::diagnose::clock::{ahead, clock_by_answer, of_clock};
use crate::diagnose::finding::{self, Found, ended, failed};
use crate::diagnose::observed::{Clock, End, Seen, WebSocketEnd};
use crate::diagnose::report::Status;
use crate::diagnose::secured::{STEP, secured};
use crate::diagnose::targets::{Endpoint, Instance, Plan, WebSocketUrl};
use crate::policy::Decision;
use crate::target::Target;

/// For a whole file of the panel.
const FILE: Duration = Duration::from_secs(20);
/// For an upgrade, and for the answer to an invitation: the panel's own limits.
const UPGRADE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);
/// Between two heartbeats, and for the answer to one.
const BEAT: Duration = Duration::from_secs(10);

/// The file that the simulated region has, of a panel's size; it answers any path so.
const SCRIPT: &str = "/static/panel.js";
const API: &str = "/connect/api";
/// What the panel asks its instance for.
const QUESTION: &str = r#"{"method":"getAgentSnapshot","params":{}}"#;

/// What came of a call.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// How long each phase took that came to its end.
    pub phases: Vec<(Phase, Duration)>,
    pub failed: Option<Failed>,
    /// What was worse than it should be.
    pub degraded: Vec<Cause>,
    /// Whether an answer that somebody vouches for has the time that it is here.
    pub clock_agrees: bool,
    /// The instance whose own host [`Phase::Api`] asked, under a domain where instances of today have names.
    pub instance: Option<Instance>,
}

/// How a call failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub phase: Phase,
    pub cause: Cause,
    pub detail: String,
}

/// A call under way.
pub(super) struct Call<'a> {
    scene: &'a Scene,
    /// Its browser's, through a proxy.
    way: Option<Way>,
    number: u32,
    played: Played,
}

impl<'a> Call<'a> {
    /// Plays a call. Its number decides which endpoints it takes.
    pub(super) async fn play(scene: &'a Scene, number: u32) -> Played {
        let way = scene.via.as_ref().map(Way::another);
        let mut call = Self { scene, way, number, played: Played::default() };
        let ended = match &scene.signalling {
            Some(signalling) => call.whole(signalling).await,
            None => call.without_login().await,
        };
        call.played.failed =
            ended.err().map(|(phase, Found { cause, detail, .. })| Failed { phase, cause, detail });
        call.played
    }

    /// Everything that a softphone does.
    async fn whole(&mut self, signalling: &Signalling) -> Result<(), (Phase, Found)> {
        let scene = self.scene;
        if let Some(endpoint) = in_turn(&scene.cast.files, self.number) {
            let path = if signalling.simulated { SCRIPT } else { "/" };
            self.file(endpoint, path).await.map_err(|found| (Phase::Static, found))?;
        }
        if let Some(endpoint) = in_turn(&scene.cast.api, self.number) {
            self.note_instance(endpoint);
            self.ask(endpoint).await.map_err(|found| (Phase::Api, found))?;
        }
        let url = (signalling.url)(self.number);
        let mut line =
            self.dial(&url, signalling.simulated).await.map_err(|found| (Phase::Signalling, found))?;
        // An invitation carries a description of the media.
        self.say(&mut line, Phase::Exchange, 3000).await?;
        let heard = self.media().await.map_err(|found| (Phase::Media, found))?;
        // The call goes on with the address that answered first, while the others have their time.
        let others = async { Ok::<_, (Phase, Found)>(voice::wanting(heard).await) };
        let ((), wanting) = try_join(self.connected(line), others).await?;
        self.played.degraded.extend(wanting);
        Ok(())
    }

    /// A call from when its voice has a way, to its end.
    async fn connected(&mut self, mut line: Line) -> Result<(), (Phase, Found)> {
        let until = line.connected + self.scene.hold;
        loop {
            self.say(&mut line, Phase::Heartbeat, 0).await?;
            let left = until.saturating_duration_since(Instant::now()).min(BEAT);
            if left.is_zero() {
                break;
            }
            let rested = line.socket.rest(left).await;
            rested.map_err(|cut| (Phase::Heartbeat, line.cut(cut)))?;
        }
        self.say(&mut line, Phase::Transfer, 600).await?;
        self.say(&mut line, Phase::Conference, 400).await?;
        self.say(&mut line, Phase::HangUp, 200).await?;
        // The call is over: how long the far side takes to say so, too, is its own affair.
        line.socket.close().await;
        Ok(())
    }

    /// What can be had of a call without signing in: each of its hosts answers as it should.
    async fn without_login(&mut self) -> Result<(), (Phase, Found)> {
        let cast = &self.scene.cast;
        for (phase, endpoints) in [
            (Phase::Static, &cast.files),
            (Phase::Api, &cast.api),
            (Phase::Signalling, &cast.transport),
            (Phase::Telecom, &cast.telecom),
        ] {
            let Some(endpoint) = in_turn(endpoints, self.number) else { continue };
            if phase == Phase::Api {
                self.note_instance(endpoint);
            }
            self.test(phase, endpoint).await.map_err(|found| (phase, found))?;
        }
        let heard = self.media().await.map_err(|found| (Phase::Media, found))?;
        self.played.degraded.extend(voice::wanting(heard).await);
        Ok(())
    }

    /// Notes whose host the call is about to ask. A name under the domain that AWS replaced says nothing of the alias.
    fn note_instance(&mut self, endpoint: &Endpoint) {
        self.played.instance = endpoint.instance.clone().filter(|instance| !instance.replaced);
    }

    /// A message and its answer.
    async fn say(&mut self, line: &mut Line, phase: Phase, size: usize) -> Result<(), (Phase, Found)> {
        let answered = match line.simulated && phase != Phase::Heartbeat {
            true => line.socket.ask(&message(phase.as_str(), size), ANSWER).await,
            false => line.socket.beat(ANSWER).await,
        };
        match answered {
            Ok(took) => {
                self.note(phase, took);
                Ok(())
            }
            Err(cut) => Err((phase, line.cut(cut))),
        }
    }

    fn note(&mut self, phase: Phase, took: Duration) {
        self.played.phases.push((phase, took));
    }

    /// An endpoint as `check` tests it.
    async fn test(&mut self, phase: Phase, endpoint: &Endpoint) -> Result<(), Found> {
        let Plan::Tcp(target) = &endpoint.plan else { return Ok(()) };
        let begun = self.turn(target).await;
        let network = self.scene.network(self.route());
        let mut judged = Box::pin(diagnose::one(&network, endpoint.clone())).await;
        self.played.clock_agrees |= judged.clock.is_some_and(Clock::agrees);
        diagnose::by_clock(&mut judged);
        match (judged.status, judged.cause) {
            (Status::Failed, Some(cause)) => return Err(failed(cause, judged.detail)),
            (Status::Degraded, Some(cause)) => self.played.degraded.push(cause),
            _ => {}
        }
        self.note(phase, begun.elapsed());
        Ok(())
    }

    async fn file(&mut self, endpoint: &Endpoint, path: &str) -> Result<(), Found> {
        let Plan::Tcp(target) = &endpoint.plan else { return Ok(()) };
        let begun = self.turn(target).await;
        let (mut session, mut seen) = self.secured(target).await?;
        let host = authority(target);
        let asked = http::get(&mut session.stream, &host, path, "Connection: close\r\n");
        let answer = timeout(STEP, asked).await;
        let answer = self.answered(&mut seen, answer, endpoint)?;
        match timeout(FILE, answer.read_through(&mut session.stream)).await {
            Ok(Ok(_)) => {
                self.note(Phase::Static, begun.elapsed());
                Ok(())
            }
            Ok(Err(how)) => Err(ended(&mut seen, End::NoAnswer(NoAnswer::Ended(how)))),
            Err(_) => Err(ended(&mut seen, End::Silent(FILE))),
        }
    }

    /// Asks the API, which may say that nobody has signed in.
    async fn ask(&mut self, endpoint: &Endpoint) -> Result<(), Found> {
        let Plan::Tcp(target) = &endpoint.plan else { return Ok(()) };
        let begun = self.turn(target).await;
        let (mut session, mut seen) = self.secured(target).await?;
        let host = authority(target);
        let asked = http::post(&mut session.stream, &host, API, QUESTION);
        let answer = timeout(STEP, asked).await;
        self.answered(&mut seen, answer, endpoint)?;
        self.note(Phase::Api, begun.elapsed());
        Ok(())
    }

    /// An answer that is the service's own, and not its failure.
    fn answered(
        &mut self,
        seen: &mut Seen,
        answer: Result<Result<Answer, NoAnswer>, tokio::time::error::Elapsed>,
        endpoint: &Endpoint,
    ) -> Result<Answer, Found> {
        let answer = match answer {
            Err(_) => return Err(ended(seen, End::Silent(STEP))),
            Ok(Err(why)) => return Err(ended(seen, End::NoAnswer(why))),
            Ok(Ok(answer)) => answer,
        };
        if let Some(date) = answer::date(&answer) {
            let ahead_ms = ahead(SystemTime::now(), Duration::ZERO, date);
            self.played.clock_agrees |= Clock { ahead_ms, verified: true }.agrees();
        }
        let public = seen.shown.as_ref().is_some_and(|(_, verdicts)| verdicts.public.is_ok());
        let foreign = match answer.status {
            500.. => Some(format!("{} answered {}", endpoint.host, answer.status)),
            _ => answer::foreign(&answer, endpoint, public),
        };
        let end = foreign.map_or(End::Answered(answer.status), End::Foreign);
        self.judge(seen, end).map(|()| answer)
    }

    /// The signalling WebSocket of the call.
    async fn dial(&mut self, url: &WebSocketUrl, simulated: bool) -> Result<Line, Found> {
        let target = &url.target;
        let begun = self.turn(target).await;
        let (session, mut seen) = self.secured(target).await?;
        let asked = Instant::now();
        let tls = seen.tls.unwrap_or_default();
        self.note(Phase::Connect, (asked - begun).saturating_sub(tls));
        self.note(Phase::Tls, tls);
        let opened = timeout(UPGRADE, WebSocket::open(session.stream, &authority(target), &url.path)).await;
        let socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return Err(ended(&mut seen, End::WebSocket(why.into()))),
            Err(_) => return Err(ended(&mut seen, End::WebSocket(WebSocketEnd::Hung(UPGRADE)))),
        };
        let (connected, opening) = (Instant::now(), begun.elapsed());
        self.note(Phase::Upgrade, asked.elapsed());
        self.note(Phase::Signalling, opening);
        self.judge(&mut seen, End::WebSocket(WebSocketEnd::Held { opening, held: Duration::ZERO }))?;
        Ok(Line { socket, seen, connected, simulated })
    }

    /// The voice path, past every proxy.
    async fn media(&mut self) -> Result<Option<Heard<'a>>, Found> {
        let scene: &'a Scene = self.scene;
        let heard = voice::ask(&scene.egress, &scene.own, &scene.cast.media, self.number).await?;
        if let Some(heard) = &heard {
            self.note(Phase::Media, heard.took);
        }
        Ok(heard)
    }

    /// A TLS session whose certificate somebody vouches for.
    async fn secured(&mut self, target: &Target) -> Result<(Session, Seen), Found> {
        let rule = self.scene.policy.decide(target);
        let of_catalogue = matches!(rule, Decision::Allowed(_, rule) if !rule.is_added());
        let (route, trust) = (self.route(), &self.scene.trust);
        let mut seen = Seen::default();
        let made = secured(&route, trust, &SystemTime::now, target, of_catalogue, &mut seen).await;
        let session = match made {
            Ok(session) => session,
            Err(end) => return Err(ended(&mut seen, end)),
        };
        if session.verdicts.public.is_err() && session.verdicts.platform.is_err() {
            let clock = clock_by_answer(session, trust, &SystemTime::now, &authority(target)).await;
            let blamed = clock.and_then(of_clock);
            return Err(blamed.unwrap_or_else(|| ended(&mut seen, End::Untrusted)));
        }
        Ok((session, seen))
    }

    /// A failure, or a note of what is worse than it should be.
    fn judge(&mut self, seen: &mut Seen, end: End) -> Result<(), Found> {
        seen.end = Some(end);
        match finding::find(seen) {
            Some(found) if found.severity == Severity::Failed => Err(found),
            Some(found) => {
                self.played.degraded.push(found.cause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The way of all that isn't media.
    fn route(&self) -> Route<'_> {
        Route::via(&self.scene.egress, &self.scene.own, self.way.as_ref())
    }

    /// Waits for the turn of a connection there. What takes time begins then: the wait before it is this rehearsal's
    /// own doing, and none of the network's.
    async fn turn(&self, target: &Target) -> Instant {
        if let Some(pace) = &self.scene.pace {
            pace.turn(&target.host).await;
        }
        Instant::now()
    }
}

/// A call's signalling, open.
struct Line {
    socket: WebSocket<Stream<Tap>>,
    seen: Seen,
    connected: Instant,
    simulated: bool,
}

impl Line {
    /// Why it was cut.
    fn cut(&mut self, Cut(how): Cut) -> Found {
        let cut = WebSocketEnd::Cut(self.connected.elapsed(), how);
        ended(&mut self.seen, End::WebSocket(cut))
    }
}

/// The port is left out where browsers do.
fn authority(target: &Target) -> String {
    let text = target.to_string();
    match target.port {
        443 => text.strip_suffix(":443").unwrap_or(&text).to_owned(),
        _ => text,
    }
}

/// A message of the panel with about so many bytes.
pub(super) fn message(topic: &str, size: usize) -> String {
    format!(r#"{{"topic":"simulated/{topic}","content":"{:x<size$}"}}"#, "")
}
