//! What the name of an outbound listener or route configuration means (design D6).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Context;
use super::route::{self, Scope};
use crate::istio::{HostName, HostPattern};
use crate::world::{Owner, Place, Port, Rule, Service};

/// Port on which hosts are served that only a virtual service knows, as Istio has it.
const RULES_ONLY_PORT: u16 = 80;

/// What is behind `<host>:<port>` or `<ip>:<port>`.
pub(super) enum Target<'a> {
    /// One port of one service.
    Service(&'a Arc<Service>, &'a Port),
    /// Several services that share an address.
    Shared(SocketAddr, Vec<Owner<'a>>),
    /// A host that no service has, but a virtual service rules.
    Rules(HostName, &'a Arc<Rule>),
}

/// The service of a name that callers leave unfinished where a resolver would complete it:
/// `<name>.<namespace>` and `<name>.<namespace>.svc`. Objects write names out.
fn searched<'a>(context: &Context<'a>, host: &str) -> Option<&'a Arc<Service>> {
    let domain = &context.world.settings().domain;
    let completed = match host.split('.').collect::<Vec<_>>().as_slice() {
        [_, _] => format!("{host}.svc.{domain}"),
        [_, _, "svc"] => format!("{host}.{domain}"),
        _ => return None,
    };
    context.world.named_service(&completed, context.client.namespace())
}

impl<'a> Target<'a> {
    /// The target of a name, as the client sees it.
    pub(super) fn of(context: &Context<'a>, name: &str) -> Option<Self> {
        let (host, port) = name.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match literal.unwrap_or(host).parse::<IpAddr>() {
            Ok(ip) => Self::of_address(context, ip, port),
            Err(_) => Self::of_host(context, host, port),
        }
    }

    fn of_address(context: &Context<'a>, ip: IpAddr, port: u16) -> Option<Self> {
        let owners = context.world.owners(ip, port, context.client.namespace());
        match owners.as_slice() {
            [] => None,
            [Owner { service, port }] => Some(Target::Service(service, service.port(*port)?)),
            _ => Some(Target::Shared(SocketAddr::new(ip, port), owners)),
        }
    }

    fn of_host(context: &Context<'a>, host: &str, port: u16) -> Option<Self> {
        let namespace = context.client.namespace();
        let service = context.world.service(host, namespace);
        if let Some(service) = service.or_else(|| searched(context, host)) {
            return Some(Target::Service(service, service.port(port)?));
        }
        let host = HostName::parse(host).ok()?;
        let rule = context.world.rule(&HostPattern::Exact(host.clone()), namespace, "")?;
        let named = rule
            .hosts
            .iter()
            .any(|known| *known != HostPattern::Any && known.matches(host.as_str()));
        let scope = Scope { place: Place::Mesh, port };
        let served = port == RULES_ONLY_PORT && route::applies(context, rule, &scope);
        (named && served).then_some(Target::Rules(host, rule))
    }

    /// The canonical name: every other one is an alias.
    pub(super) fn name(&self) -> String {
        match self {
            Target::Service(service, port) => format!("{}:{}", service.key.host, port.number),
            Target::Shared(address, _) => address.to_string(),
            Target::Rules(host, _) => format!("{host}:{RULES_ONLY_PORT}"),
        }
    }
}
