//! Two replicas behind a TCP load balancer, as they run in production: HAProxy sends connections to
//! one and the other in turn, and agents resume on both, also after a restart.

use crate::support::{behind_a_balancer, have};

#[test]
fn agents_resume_on_both_replicas_and_after_a_restart() {
    if !have("haproxy") || !have("python3") {
        return;
    }
    for version in ["TLSv1_3", "TLSv1_2"] {
        assert_eq!(behind_a_balancer((4, 6, 6), version), (144, 144), "{version}");
    }
}
