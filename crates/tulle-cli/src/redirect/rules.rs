//! The rules, once, for both address families and both tools.
//!
//! The kernel asks at four places, and only for packets that begin a connection (SYN alone):
//! translation happens once per connection and holds for its life, so whatever is open when the
//! rules come is never touched, although the kernel sees it for the first time then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::scope::{Mark, Port, PortRange, Scope};

/// Source addresses from which the proxy connects to an application whose port nobody declared:
/// the original destination is an address of this namespace and would come back for ever. `::6`,
/// which must be given to the loopback interface first, is what a stock Envoy under Istio uses.
const PASSTHROUGH_SOURCES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
];

/// Addresses that mean the namespace itself and nobody else.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// Ports of the proxy that are reached directly: admin, outbound, inbound, tunnel, merged metrics,
/// health, metrics.
const PROXY_PORTS: [u16; 7] = [15000, 15001, 15006, 15008, 15020, 15021, 15090];

/// A place where the kernel asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Destination of what a process here sends.
    TranslateOutput,
    /// Destination of what arrives.
    TranslateInput,
    /// Whether what a process here sends may go.
    GuardOutput,
    /// Whether what arrives may come in.
    GuardInput,
}

impl Hook {
    /// Every place; guards last, so that nothing is refused that is about to be translated.
    pub const ALL: [Hook; 4] =
        [Hook::TranslateOutput, Hook::TranslateInput, Hook::GuardOutput, Hook::GuardInput];
}

/// The rules of one place; without a match a connection is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The place.
    pub hook: Hook,
    /// In order; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// What happens to connections for which every match holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All of them.
    pub matches: Vec<Match>,
    /// What happens.
    pub verdict: Verdict,
}

/// A property of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Its destination is an address of this namespace.
    ToSelf,
    /// Its destination is not an address of this namespace.
    ToOthers,
    /// It came in by the loopback interface.
    FromSelf,
    /// A process of this user opened it.
    User(u32),
    /// A process of this group opened it.
    Group(u32),
    /// Its socket is marked.
    Mark(Mark),
    /// Its destination port.
    Ports(PortRange),
    /// Its destination.
    Destination(IpNet),
    /// Its source.
    Source(IpAddr),
    /// It was not redirected.
    Untranslated,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; no later rule is asked.
    Leave,
    /// It goes to this port of this namespace.
    Redirect(Port),
    /// It is refused at once (RST), not left to time out.
    Refuse,
}

impl Rule {
    fn leave(matches: impl Into<Vec<Match>>) -> Rule {
        Rule { matches: matches.into(), verdict: Verdict::Leave }
    }

    /// Whether the rule can match in the family of `address`.
    pub fn concerns(&self, family: Family) -> bool {
        self.matches.iter().all(|wanted| match wanted {
            Match::Destination(network) => Family::of(&network.addr()) == family,
            Match::Source(address) => Family::of(address) == family,
            _ => true,
        })
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn of(address: &IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// The rules for a scope.
pub fn chains(scope: &Scope) -> Vec<Chain> {
    let rules = |hook| match hook {
        Hook::TranslateOutput => translate_output(scope),
        Hook::TranslateInput => translate_input(scope),
        Hook::GuardOutput => guard_output(scope),
        Hook::GuardInput => guard_input(scope),
    };
    Hook::ALL.into_iter().map(|hook| Chain { hook, rules: rules(hook) }).collect()
}

/// Rules that redirect nothing new: the kernel translates the packets of open connections as long
/// as there is a translating chain and a rule that asks about the state of connections.
pub fn chains_that_only_translate_open_connections() -> Vec<Chain> {
    let rules = vec![Rule::leave([Match::Untranslated])];
    let chains = [Hook::TranslateOutput, Hook::TranslateInput].into_iter();
    chains.map(|hook| Chain { hook, rules: rules.clone() }).collect()
}

/// What leaves goes to the outbound port, what the proxy sends to this namespace (a service called
/// itself) to the inbound port.
fn translate_output(scope: &Scope) -> Vec<Rule> {
    let proxy = Match::User(scope.proxy_uid);
    let own = PASSTHROUGH_SOURCES.map(Match::Source).into_iter();
    let own = own.chain(LOOPBACK.map(Match::Destination));
    let mut rules: Vec<Rule> = own.map(|own| Rule::leave([Match::ToSelf, own])).collect();
    let direct = direct_inbound_ports(scope).into_iter();
    rules.extend(direct.map(|ports| Rule::leave([Match::ToSelf, proxy, Match::Ports(ports)])));
    rules.push(Rule {
        matches: vec![Match::ToSelf, proxy],
        verdict: Verdict::Redirect(scope.inbound),
    });
    rules.extend(free_to_leave(scope));
    rules.push(Rule { matches: vec![], verdict: Verdict::Redirect(scope.outbound) });
    rules
}

/// What arrives for this namespace goes to the inbound port.
fn translate_input(scope: &Scope) -> Vec<Rule> {
    let mut rules = vec![Rule::leave([Match::FromSelf]), Rule::leave([Match::ToOthers])];
    let direct = direct_inbound_ports(scope).into_iter();
    rules.extend(direct.map(|ports| Rule::leave([Match::Ports(ports)])));
    rules.push(Rule { matches: vec![], verdict: Verdict::Redirect(scope.inbound) });
    rules
}

/// What would leave past the proxy is refused: connections that are not tracked, that reuse the
/// ports of one from before the rules, or that somebody else's rules took.
fn guard_output(scope: &Scope) -> Vec<Rule> {
    let mut rules = free_to_leave(scope);
    rules.push(Rule { matches: vec![], verdict: Verdict::Refuse });
    rules
}

/// Nobody outside may use the ports that stand for others: whoever calls the outbound port itself
/// has no original destination and would be carried on as if from here.
fn guard_input(scope: &Scope) -> Vec<Rule> {
    let mut rules = vec![Rule::leave([Match::FromSelf])];
    rules.extend([scope.inbound, scope.outbound].map(|port| Rule {
        matches: vec![Match::Ports(port.into()), Match::Untranslated],
        verdict: Verdict::Refuse,
    }));
    rules
}

/// What may leave the namespace without the proxy.
fn free_to_leave(scope: &Scope) -> Vec<Rule> {
    let mut free = vec![Match::ToSelf, Match::User(scope.proxy_uid)];
    free.extend(scope.exclude_uids.iter().copied().map(Match::User));
    free.extend(scope.exclude_gids.iter().copied().map(Match::Group));
    free.extend(scope.exclude_marks.iter().copied().map(Match::Mark));
    free.extend(scope.exclude_outbound_ports.iter().copied().map(Match::Ports));
    free.extend(
        IpNet::aggregate(&scope.exclude_outbound_cidrs).into_iter().map(Match::Destination),
    );
    free.into_iter().map(|wanted| Rule::leave([wanted])).collect()
}

fn direct_inbound_ports(scope: &Scope) -> Vec<PortRange> {
    let chosen =
        [scope.inbound, scope.outbound].into_iter().filter(|p| !PROXY_PORTS.contains(&p.0));
    let proxy = PROXY_PORTS.into_iter().map(Port).chain(chosen).map(PortRange::from);
    proxy.chain(scope.exclude_inbound_ports.iter().copied()).collect()
}
