//! Placeholder
use tulle_model::listener::Listener;
use tulle_model::route::RouteConfiguration;

use super::Context;

pub(super) fn virtual_outbound(_: &Context<'_>) -> Option<Listener> {
    None
}
pub(super) fn listener(_: &Context<'_>, _: &str) -> Option<Listener> {
    None
}
pub(super) fn routes(_: &Context<'_>, _: &str) -> Option<RouteConfiguration> {
    None
}
pub(super) fn listener_names(_: &Context<'_>) -> Vec<String> {
    Vec::new()
}
pub(super) fn cluster_names(_: &Context<'_>) -> Vec<String> {
    Vec::new()
}
