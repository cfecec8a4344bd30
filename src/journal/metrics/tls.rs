//! The families of TLS with clients: handshakes, sessions, and the certificates of all listeners.

use std::collections::HashMap;
use std::sync::Mutex;

use prometheus::{GaugeVec, Histogram, IntCounter};
use strum::VariantArray;

use super::registrar::Registrar;
use super::sessions::Sessions;
use crate::lock::lock;
use crate::net::entrance::Entrance;
use crate::outcome::HandshakeFailure;

const AGE_EDGES: &[f64] = &[60.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 28800.0, 36000.0, 86400.0];

/// The file of a certificate, and from when until when it is valid, in seconds since 1970.
type Certificate = (String, i64, i64);

pub struct TlsMetrics {
    /// Handshakes that resumed nothing.
    pub(crate) full: IntCounter,
    pub(crate) resumed: IntCounter,
    failed: Vec<IntCounter>,
    /// Seconds since the full handshake of a session that is resumed.
    pub(crate) resumed_age: Histogram,
    pub(crate) sessions: Sessions,
    expiry: GaugeVec,
    not_before: GaugeVec,
    /// What these two show, by listener.
    certificates: Mutex<HashMap<&'static str, Certificate>>,
}

impl TlsMetrics {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        let handshakes = families.counters(
            "ccpgate_tls_handshakes_total",
            "Completed TLS handshakes with clients.",
            &["resumed"],
        );
        let failures = families.counters(
            "ccpgate_tls_handshake_failures_total",
            "TLS handshakes with clients that failed, by cause.",
            &["cause"],
        );
        Self {
            full: handshakes.with_label_values(&["false"]),
            resumed: handshakes.with_label_values(&["true"]),
            failed: HandshakeFailure::VARIANTS
                .iter()
                .map(|cause| failures.with_label_values(&[cause.into_str()]))
                .collect(),
            resumed_age: families.histogram(
                "ccpgate_tls_resumed_age_seconds",
                "Age of the TLS sessions that clients resumed, since their full handshake.",
                AGE_EDGES,
            ),
            sessions: Sessions::new(families),
            expiry: families.fractions(
                "ccpgate_certificate_expiry_timestamp_seconds",
                "When a listener's certificate expires, in seconds since 1970.",
                &["certificate"],
            ),
            not_before: families.fractions(
                "ccpgate_certificate_not_before_timestamp_seconds",
                "When the validity of a listener's certificate begins, in seconds since 1970.",
                &["certificate"],
            ),
            certificates: Mutex::default(),
        }
    }

    pub(crate) fn failed(&self, cause: HandshakeFailure) {
        self.failed[cause as usize].inc();
    }

    /// Handshakes with clients that failed, by cause.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = HandshakeFailure::VARIANTS.iter().zip(&self.failed);
        counters.map(|(cause, counter)| (cause.into_str(), counter.get()))
    }

    /// The certificate of the TLS listener, if it is in use, and from when until when it is valid, in seconds
    /// since 1970.
    pub fn certificate(&self, certificate: Option<(&str, i64, i64)>) {
        self.certificate_of(Entrance::Https, certificate);
    }

    /// The same for any listener. A certificate that is no longer used must not go on alarming anybody.
    pub(crate) fn certificate_of(&self, listener: Entrance, certificate: Option<(&str, i64, i64)>) {
        let mut all = lock(&self.certificates);
        match certificate {
            Some((file, begins, expiry)) => {
                all.insert(listener.into_str(), (file.to_owned(), begins, expiry));
            }
            None => drop(all.remove(listener.into_str())),
        }
        self.expiry.reset();
        self.not_before.reset();
        for (file, begins, expiry) in all.values() {
            self.not_before.with_label_values(&[file]).set(*begins as f64);
            self.expiry.with_label_values(&[file]).set(*expiry as f64);
        }
    }

    /// The file of the TLS listener's certificate in use, from when until when it is valid, in seconds since
    /// 1970.
    pub(crate) fn certificate_in_use(&self) -> Option<Certificate> {
        let all = lock(&self.certificates);
        all.get(Entrance::Https.into_str()).cloned()
    }
}
