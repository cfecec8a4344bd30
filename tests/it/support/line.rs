//! The Unix socket of a running proxy, spoken to by hand: a successor whose every step the test chooses.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Proxy, eventually};

/// Longer than the proxy waits for anybody on such a socket, 10 s, twice.
const PATIENCE: Duration = Duration::from_secs(30);

/// A conversation: one question, and the words of a hand-over.
pub(crate) struct Line(UnixStream);

impl Line {
    /// To the process that shares this folder.
    pub(crate) fn to(proxy: &Proxy, folder: &Path) -> Self {
        let socket = folder.join(format!("ccpgate-{}.sock", proxy.id().as_raw_nonzero()));
        // It opens a moment after the listeners.
        let stream = eventually("its Unix socket", || UnixStream::connect(&socket).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// One that has asked to take over, and was given the sockets; it leaves them alone.
    pub(crate) fn takes_over(proxy: &Proxy, folder: &Path) -> Self {
        let mut line = Self::to(proxy, folder);
        line.say(r#"{"take_over":{"pid":1,"version":"by hand"}}"#);
        // The sockets travel with one byte.
        line.0.read_exact(&mut [0]).unwrap();
        let given = line.hear().unwrap();
        assert!(given.get("given").is_some(), "{given}");
        line
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next answer, as it came.
    pub(crate) fn hear_bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer)?;
        Ok(answer)
    }

    pub(crate) fn hear(&mut self) -> io::Result<Value> {
        Ok(serde_json::from_slice(&self.hear_bytes()?).unwrap())
    }

    /// Breaks it.
    pub(crate) fn hang_up(self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
