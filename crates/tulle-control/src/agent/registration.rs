//! What a proxy says of its workload, checked and turned into the registry's words.

use std::net::IpAddr;
use std::num::NonZeroU16;

use tulle_xds::proto::tulle::v1 as proto;

use crate::ingest::registry::{
    MAX_NAME_BYTES, MAX_PORTS, Offer, Port, Workload, WorkloadError, WorkloadName,
};

/// The workload that `hello` registers, if it registers any.
pub(super) fn read(hello: &proto::Hello) -> Result<Option<Workload>, WorkloadError> {
    let name = WorkloadName::new(&hello.namespace, &hello.name)?;
    let Some(registration) = &hello.registration else { return Ok(None) };
    if hello.instance.len() > MAX_NAME_BYTES {
        let what = "bytes in the instance";
        return Err(WorkloadError::TooMany { what, limit: MAX_NAME_BYTES });
    }
    if registration.ports.len() > MAX_PORTS {
        return Err(WorkloadError::TooMany { what: "ports", limit: MAX_PORTS });
    }
    let address = match registration.address.is_empty() {
        true => &hello.address,
        false => &registration.address,
    };
    let labels = match registration.labels.is_empty() {
        true => &hello.labels,
        false => &registration.labels,
    };
    let labels = labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
    let ports = registration.ports.iter().map(port).collect::<Result<_, _>>()?;
    let workload = Workload {
        name,
        service_account: hello.service_account.as_str().into(),
        offer: Offer {
            service: registration.service.as_str().into(),
            address: ip(address)?,
            labels: labels.collect(),
            ports,
        },
    };
    workload.check()?;
    Ok(Some(workload))
}

fn ip(text: &str) -> Result<IpAddr, WorkloadError> {
    text.parse().map_err(|_| WorkloadError::Address(text.chars().take(80).collect()))
}

fn port(port: &proto::Port) -> Result<Port, WorkloadError> {
    Ok(Port {
        name: port.name.as_str().into(),
        number: number(port.number)?.ok_or(WorkloadError::PortNumber(0))?,
        app_port: number(port.app_port)?,
        listen_port: number(port.listen_port)?,
        protocol: port.protocol.as_str().into(),
    })
}

/// A port number; zero is none.
fn number(number: u32) -> Result<Option<NonZeroU16>, WorkloadError> {
    let port = u16::try_from(number).map_err(|_| WorkloadError::PortNumber(number))?;
    Ok(NonZeroU16::new(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> proto::Hello {
        proto::Hello {
            namespace: "shop".into(),
            name: "order-1".into(),
            address: "10.0.0.1".into(),
            labels: [("app".to_owned(), "order".to_owned())].into(),
            registration: Some(proto::Registration {
                service: "order.shop".into(),
                ports: vec![proto::Port {
                    name: "http".into(),
                    number: 80,
                    listen_port: 18080,
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_left_out_is_taken_from_the_workload() {
        let workload = read(&hello()).expect("good").expect("registers");
        assert_eq!(workload.offer.address.to_string(), "10.0.0.1");
        assert_eq!(&*workload.offer.labels["app"], "order");
        assert_eq!(workload.offer.ports[0].target(), 18080);
        assert_eq!(workload.offer.ports[0].application(), 80);
        let caller = proto::Hello { registration: None, ..hello() };
        assert_eq!(read(&caller), Ok(None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |change: &dyn Fn(&mut proto::Hello)| {
            let mut hello = hello();
            change(&mut hello);
            read(&hello).expect_err("refused").to_string()
        };
        fn registration(hello: &mut proto::Hello) -> &mut proto::Registration {
            hello.registration.as_mut().expect("there")
        }
        assert!(refused(&|h| h.name = "a/b".into()).contains("not a name"));
        assert!(refused(&|h| h.address = "order-1".into()).contains("cannot be dialled"));
        assert!(refused(&|h| registration(h).ports[0].number = 0).contains("port 0"));
        assert!(refused(&|h| registration(h).ports[0].number = 65536).contains("port 65536"));
        assert!(refused(&|h| registration(h).service.clear()).contains("service"));
    }
}
