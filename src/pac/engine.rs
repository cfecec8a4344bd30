//! Anybody's PAC file, asked as a browser asks it: in an engine for JavaScript, with the functions that
//! browsers add, and with bounds on time and memory. Nothing is resolved here: the file is told the
//! addresses that are known already.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rquickjs::{CatchResultExt, Context, Ctx, Function, Runtime, Value};

/// What one file may take of memory, and of the stack, in bytes.
const MEMORY: usize = 64 << 20;
const STACK: usize = 512 << 10;
/// How long reading the file may take, and one question.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer that is taken, in characters; longer ones are cut.
const LONGEST: usize = 1000;

/// The functions that browsers add, on top of `ccpgateAddresses` and `ccpgateOwn`.
const FUNCTIONS: &str = include_str!("functions.js");

/// What a file may ask about the network.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Addresses by name in lower case; other names have none.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Of the machine that asks.
    pub own: Vec<IpAddr>,
}

/// Why a file gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has an error: browsers then go past every proxy.
    Broken(String),
    /// It takes more time or memory than it gets here.
    Exhausted(String),
}

/// A file that was read.
pub struct Engine {
    context: Context,
    clock: Clock,
}

/// Ends what takes too long, from within the engine.
#[derive(Clone)]
struct Clock {
    begun: Instant,
    /// In milliseconds from `begun`.
    until: Arc<AtomicU64>,
}

impl Clock {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wind(&self) {
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        self.until.store(self.now().saturating_add(patience), Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.now() > self.until.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it can't be asked, in one line: what the engine says of it, or that it has no
    /// `FindProxyForURL`.
    pub fn read(text: &str, facts: Facts) -> Result<Self, Fault> {
        let none = |error: rquickjs::Error| Fault::Exhausted(error.to_string());
        let runtime = Runtime::new().map_err(none)?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        let clock = Clock { begun: Instant::now(), until: Arc::default() };
        let within = clock.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || within.is_over())));
        let context = Context::full(&runtime).map_err(none)?;
        clock.wind();
        let read = context.with(|ctx| {
            let globals = ctx.globals();
            let Facts { names, own } = facts;
            let list =
                |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(";");
            let own = list(&own);
            let addresses = move |name: String| {
                names.get(&name.to_lowercase()).map(|found| list(found)).unwrap_or_default()
            };
            let prepared = Function::new(ctx.clone(), addresses)
                .and_then(|function| globals.set("ccpgateAddresses", function))
                .and_then(|()| globals.set("ccpgateOwn", own))
                .and_then(|()| ctx.eval::<(), _>(FUNCTIONS));
            said(&ctx, prepared)?;
            // A byte order mark is no part of the script.
            said(&ctx, ctx.eval::<(), _>(text.trim_start_matches('\u{feff}')))?;
            let find: Result<Value<'_>, _> = globals.get("FindProxyForURL");
            match find {
                Ok(find) if find.is_function() => Ok(()),
                _ => Err("it has no function FindProxyForURL".to_owned()),
            }
        });
        read.map_err(|why| clock.told(why))?;
        Ok(Self { context, clock })
    }

    /// What the file answers for a URL and its host.
    ///
    /// # Errors
    /// Why it answers nothing, in one line.
    pub fn ask(&self, url: &str, host: &str) -> Result<String, Fault> {
        self.clock.wind();
        let answer = self.context.with(|ctx| {
            let find: Function<'_> = said(&ctx, ctx.globals().get("FindProxyForURL"))?;
            let answer: Value<'_> = said(&ctx, find.call((url, host)))?;
            match answer.as_string().map(rquickjs::String::to_string) {
                Some(Ok(text)) => Ok(line(&text)),
                _ => Err("it answers no text".to_owned()),
            }
        });
        answer.map_err(|why| self.clock.told(why))
    }
}

impl Clock {
    fn told(&self, why: String) -> Fault {
        if self.is_over() {
            Fault::Exhausted(format!("it takes longer than {PATIENCE:?}"))
        } else if ["out of memory", "stack overflow", "call stack size", "too long"]
            .iter()
            .any(|word| why.contains(word))
        {
            Fault::Exhausted(why)
        } else {
            Fault::Broken(why)
        }
    }
}

/// An exception in words.
fn said<'js, T>(ctx: &Ctx<'js>, result: rquickjs::Result<T>) -> Result<T, String> {
    result.catch(ctx).map_err(|error| line(&error.to_string()))
}

/// One line without control characters.
fn line(text: &str) -> String {
    let words = text.replace(|c: char| c.is_control(), " ");
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests;
