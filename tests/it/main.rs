//! Black-box tests: each starts the real binary on ports of its own and looks at it from outside,
//! as a browser, an attacker, Prometheus or an administrator does. One module per behaviour; the
//! vocabulary they share is in `support`. Nothing here knows the inside of the library.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod addresses;
mod admin;
mod answers;
mod balancer;
mod browser;
mod bundle;
mod certificates;
mod check;
mod check_forms;
mod check_media;
mod check_pac;
mod cli;
mod client_certificates;
mod dialling;
mod direct;
mod dns_yardstick;
mod drain;
mod exports;
mod faults;
mod fidelity;
mod figures;
mod findings;
mod firewall;
mod first_bytes;
mod h2;
mod hello;
mod https;
mod lanes;
mod ledger;
mod life;
mod limits;
mod manager;
mod origins;
mod pac;
mod parent;
mod proxy_protocol;
mod ranges;
mod reload;
mod requests;
mod resolving;
mod resumption;
mod running;
mod secrets;
mod simulate;
mod support;
mod symptoms;
mod systemd;
mod targets;
mod ticket_keys;
mod tunnel;
mod vanish;
mod verdict;
mod watch;
