//! Addresses and networks that an AE may call from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// An address, or a network in CIDR notation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network(IpNet);

impl Network {
    /// Whether an address lies in it. An IPv4 address that came by an IPv6 socket is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let advice = || format!("{text:?} is no address or network: write such as \"10.0.0.5\" or \"10.0.0.0/8\"");
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Network(address.to_canonical().into()));
        }
        let network = text.parse::<IpNet>().map_err(|_| advice())?;
        // 10.0.0.5/8 is either one device or sixteen million: nobody should have to guess which.
        if network.trunc() != network {
            return Err(format!(
                "{text:?} has bits beyond its prefix: write \"{}\" or \"{}\"",
                network.trunc(),
                network.addr()
            ));
        }
        Ok(Network(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_its_networks() {
        for (network, address, inside) in [
            ("10.0.0.5", "10.0.0.5", true),
            ("10.0.0.5", "10.0.0.6", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.5", "10.0.0.5", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "10.0.0.1", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), inside, "{address} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_advice() {
        for text in ["", "10.0.0.5/8", "10.0.0.0/33", "ct1.hospital", "10.0.0", "10.0.0.5:104"] {
            assert!(text.parse::<Network>().unwrap_err().contains("write"), "{text}");
        }
    }
}
