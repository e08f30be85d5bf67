//! What is redirected and what is left alone, as the operator says it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;

/// What is redirected and what is left alone.
#[derive(Debug, Clone, Args)]
pub struct Scope {
    /// Port on which the proxy takes connections to this namespace.
    #[arg(long, value_name = "PORT", default_value = "15006")]
    pub inbound: Port,
    /// Port on which the proxy takes connections from this namespace.
    #[arg(long, value_name = "PORT", default_value = "15001")]
    pub outbound: Port,
    /// User that the proxy runs as; its connections are not redirected.
    #[arg(long, value_name = "UID", default_value_t = 1337)]
    pub proxy_uid: u32,
    /// Ports of this namespace that are reached directly: numbers and ranges.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub exclude_inbound_ports: Vec<PortRange>,
    /// Ports anywhere that are called directly: numbers and ranges.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub exclude_outbound_ports: Vec<PortRange>,
    /// Networks that are called directly: addresses and CIDRs.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', value_parser = network)]
    pub exclude_outbound_cidrs: Vec<IpNet>,
    /// Users whose connections go out directly.
    #[arg(long, value_name = "UIDS", value_delimiter = ',')]
    pub exclude_uids: Vec<u32>,
    /// Groups whose connections go out directly.
    #[arg(long, value_name = "GIDS", value_delimiter = ',')]
    pub exclude_gids: Vec<u32>,
    /// Marks of sockets that go out directly: MARK or MARK/MASK, decimal or 0x….
    #[arg(long, value_name = "MARKS", value_delimiter = ',')]
    pub exclude_marks: Vec<Mark>,
}

/// A TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(port @ 1..) => Ok(Port(port)),
            _ => Err(format!("`{text}` is not a port; write a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

impl From<Port> for PortRange {
    fn from(Port(port): Port) -> Self {
        PortRange { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Port(first), Port(last)) = (first.parse()?, last.parse()?);
        match first <= last {
            true => Ok(PortRange { first, last }),
            false => Err(format!("`{text}` ends before it begins; write {last}-{first}")),
        }
    }
}

/// A firewall mark and the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Value of the bits.
    pub value: u32,
    /// Bits that count.
    pub mask: u32,
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value), number(mask)),
            None => (number(text), Some(u32::MAX)),
        };
        match (value, mask) {
            (Some(value), Some(mask)) if value & mask == value && value != 0 => {
                Ok(Mark { value, mask })
            }
            (Some(0), _) => Err("every socket without a mark has mark 0; choose another".into()),
            (Some(_), Some(_)) => Err(format!("`{text}` has bits outside its mask")),
            _ => Err(format!("`{text}` is not a mark; write MARK or MARK/MASK, e.g. 0x539/0xfff")),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network
        .map(|network| network.trunc())
        .map_err(|_| format!("`{text}` is not an address or CIDR; write e.g. 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        assert_eq!("22".parse(), Ok(PortRange { first: 22, last: 22 }));
        assert_eq!("8000-8010".parse(), Ok(PortRange { first: 8000, last: 8010 }));
        for wrong in ["", "0", "65536", "-", "5-", "-5", "9-8", "a", "1-2-3"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn marks() {
        assert_eq!("1337".parse(), Ok(Mark { value: 1337, mask: u32::MAX }));
        assert_eq!("0x539/0xfff".parse(), Ok(Mark { value: 0x539, mask: 0xfff }));
        for wrong in ["", "0", "0/0", "0/0xff", "0x100/0xff", "x", "1/x", "4294967296"] {
            assert!(wrong.parse::<Mark>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_lose_their_host_bits() {
        let text = |given: &str| network(given).map(|network| network.to_string());
        assert_eq!(text("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(text("10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(text("fd00::1").as_deref(), Ok("fd00::1/128"));
        assert!(text("10.0.0.0/33").is_err());
        assert!(text("example.com").is_err());
    }
}
