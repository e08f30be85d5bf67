//! What is counted of the stream that configuration comes over, on the control thread.

use tulle_runtime::metrics;
use tulle_runtime::telemetry::{Gauge, Local};
use tulle_xds::session::message::ResourceType;

metrics! {
    /// Of the stream.
    pub struct StreamSeries(Tulle, []) {
        gauge connected = "tulle_xds_connected",
            "1 while there is a stream to a configuration server.";
        counter names_refused = "tulle_xds_names_refused_total",
            "New names that traffic asked for faster than a control plane is asked.";
    }
}

metrics! {
    /// Of the stream, by Envoy's name.
    pub struct ControlPlaneSeries(Envoy, []) {
        gauge connected_state = "envoy_control_plane_connected_state",
            "1 while there is a stream to a configuration server.";
    }
}

metrics! {
    /// Of resources of one type.
    pub struct ResourceSeries(Tulle, ["type"]) {
        counter accepted = "tulle_xds_resources_accepted_total",
            "New and changed resources that were taken.";
        counter rejected = "tulle_xds_resources_rejected_total",
            "New and changed resources that were refused; the last good ones stay.";
    }
}

/// What is counted of discovery.
#[derive(Debug)]
pub struct DiscoverySeries {
    stream: StreamSeries,
    control_plane: ControlPlaneSeries,
    resources: [(ResourceType, ResourceSeries); ResourceType::ALL.len()],
}

impl DiscoverySeries {
    /// The series of this process.
    #[must_use]
    pub fn new(local: &Local) -> Self {
        let of = |rtype: ResourceType| {
            let label = match rtype {
                ResourceType::Cluster => "cluster",
                ResourceType::Endpoints => "endpoints",
                ResourceType::Listener => "listener",
                ResourceType::Route => "routes",
            };
            (rtype, ResourceSeries::new(local, &[label]))
        };
        Self {
            stream: StreamSeries::new(local, &[]),
            control_plane: ControlPlaneSeries::new(local, &[]),
            resources: ResourceType::ALL.map(of),
        }
    }

    /// There is a stream now, or none.
    pub fn set_connected(&self, connected: bool) {
        let set = |gauge: Gauge<'_>| gauge.set(connected.into());
        set(self.stream.connected());
        set(self.control_plane.connected_state());
    }

    /// So many new names are not asked for.
    pub fn names_refused(&self, count: u64) {
        self.stream.names_refused().add(count);
    }

    /// A resource was taken.
    pub fn accepted(&self, rtype: ResourceType) {
        self.count(rtype, |series| series.accepted().inc());
    }

    /// A resource was refused.
    pub fn rejected(&self, rtype: ResourceType) {
        self.count(rtype, |series| series.rejected().inc());
    }

    fn count(&self, rtype: ResourceType, count: impl Fn(&ResourceSeries)) {
        self.resources.iter().filter(|(of, _)| *of == rtype).for_each(|(_, series)| count(series));
    }
}
