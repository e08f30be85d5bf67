//! Addresses of listeners that were accepted and are not in force yet: they wait for what they
//! refer to, and meanwhile nobody else gets these addresses: no other listener or process.
//!
//! Reference: Envoy `ListenerManagerImpl::addOrUpdateListenerInternal`: a listener is refused whose
//! address another one has, in force or warming. What one response removes goes before what it adds
//! comes (`LdsApiImpl::onConfigUpdate`), so that a listener may be renamed.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tulle_model::listener::Listener;
use tulle_model::name::ListenerName;
use tulle_model::snapshot::Snapshot;
use tulle_runtime::sockets::{Reservation, SocketOwner};

/// What accepted listeners are going to need.
#[derive(Debug, Default)]
pub struct Claims {
    claims: Vec<Claim>,
    /// Listeners that are removed together with what comes now.
    removed: Vec<ListenerName>,
}

#[derive(Debug)]
struct Claim {
    /// Nobody holds it any more once it is not going to be in force.
    listener: Weak<Listener>,
    name: ListenerName,
    addresses: Vec<SocketAddr>,
    reservations: Vec<Reservation>,
}

impl Claim {
    fn is_alive(&self) -> bool {
        self.listener.strong_count() > 0
    }
}

impl Claims {
    /// These are gone by the time that what is claimed next is in force.
    pub fn removes(&mut self, names: impl IntoIterator<Item = ListenerName>) {
        self.removed = names.into_iter().collect();
    }

    /// Takes the addresses of a listener that came.
    ///
    /// # Errors
    /// The field of the address, why it is not to be had, and what to do.
    pub fn enter(
        &mut self,
        listener: &Arc<Listener>,
        snapshot: &Snapshot,
        owner: &SocketOwner,
    ) -> Result<(), String> {
        self.prune();
        let mut reservations = Vec::new();
        for (index, address) in listener.bind.iter().enumerate() {
            let field = match index.checked_sub(1) {
                None => "address".to_owned(),
                Some(further) => format!("additional_addresses[{further}].address"),
            };
            if let Some(other) = self.owner(&listener.name, *address, snapshot) {
                return Err(format!(
                    "{field}: {address} is that of listener `{other}`; two listeners cannot have \
                     the same address"
                ));
            }
            // Each bind of port 0 takes another port.
            if address.port() == 0 || self.has_reserved(&listener.name, *address) {
                continue;
            }
            let reserved = owner.reserve(listener.name.as_str(), *address);
            reservations.extend(reserved.map_err(|error| format!("{field}: {error}"))?);
        }
        let old = self.claims.iter().position(|claim| claim.name == listener.name);
        if let Some(old) = old.map(|index| self.claims.swap_remove(index)) {
            let still = |one: &Reservation| listener.bind.contains(&one.address());
            reservations.extend(old.reservations.into_iter().filter(still));
        }
        let (name, addresses) = (listener.name.clone(), listener.bind.clone());
        let listener = Arc::downgrade(listener);
        self.claims.push(Claim { listener, name, addresses, reservations });
        Ok(())
    }

    /// What was taken for listeners that are in force now.
    pub fn redeem(&mut self, snapshot: &Snapshot) -> Vec<Reservation> {
        self.prune();
        self.removed.clear();
        let mut redeemed = Vec::new();
        self.claims.retain_mut(|claim| {
            let shown = snapshot.listener(claim.name.as_str()).present();
            let is_shown = shown.is_some_and(|shown| shown.bind == claim.addresses);
            if is_shown {
                redeemed.append(&mut claim.reservations);
            }
            !is_shown
        });
        redeemed
    }

    /// Whether a listener that is to come wants this address.
    pub fn want(&self, address: SocketAddr) -> bool {
        let mut alive = self.claims.iter().filter(|claim| claim.is_alive());
        alive.any(|claim| claim.addresses.contains(&address))
    }

    /// Gives up what is not wanted any more.
    pub fn prune(&mut self) {
        self.claims.retain(Claim::is_alive);
    }

    /// Another listener that has an address, or is going to.
    pub(super) fn owner(
        &self,
        name: &ListenerName,
        address: SocketAddr,
        snapshot: &Snapshot,
    ) -> Option<ListenerName> {
        if address.port() == 0 {
            return None;
        }
        let is_other = |other: &ListenerName| other != name && !self.removed.contains(other);
        let claimed = self.claims.iter().filter(|claim| claim.addresses.contains(&address));
        let in_force = snapshot.listeners().filter(|listener| listener.bind.contains(&address));
        let names = claimed.map(|claim| &claim.name).chain(in_force.map(|one| &one.name));
        names.into_iter().find(|other| is_other(other)).cloned()
    }

    fn has_reserved(&self, name: &ListenerName, address: SocketAddr) -> bool {
        let mut own = self.claims.iter().filter(|claim| claim.name == *name);
        own.any(|claim| claim.reservations.iter().any(|one| one.address() == address))
    }
}
