//! The kernel's links, addresses and routes, by rtnetlink. No type of that crate leaves this file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use mac::mac_text;
use macaddr::MacAddr6;
use rtnetlink::packet_route::link::{BondLacpRate, BondMode, BondXmitHashPolicy};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBond, LinkUnspec, LinkVeth, LinkVlan, RouteMessageBuilder,
    new_connection,
};

use crate::cmdline::bond::{Bond, LacpRate, Mode, XmitHashPolicy};

/// Why the kernel did not take a change.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("no netlink socket: {0}")]
    Connect(#[source] std::io::Error),
    #[error("{what} on {link} failed: {cause}")]
    Refused {
        what: String,
        link: String,
        cause: String,
    },
}

/// Addresses that cards have of their own, by the names of the cards; needs a tokio runtime for as long as it takes.
///
/// # Errors
/// [`LinkError`] where the kernel does not answer.
pub async fn permanent_addresses() -> Result<BTreeMap<String, String>, LinkError> {
    let (connection, handle, _) = new_connection().map_err(LinkError::Connect)?;
    let connection = tokio::spawn(connection);
    let links: Result<Vec<_>, _> = handle.link().get().execute().try_collect().await;
    connection.abort();
    let links = links.map_err(|e| LinkError::Refused {
        what: "listing".to_owned(),
        link: "all links".to_owned(),
        cause: e.to_string(),
    })?;
    let of_link = |link: LinkMessage| {
        let (mut name, mut address) = (None, None);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::PermAddress(bytes) => address = <[u8; 6]>::try_from(bytes).ok(),
                _ => {}
            }
        }
        Some((name?, mac_text(MacAddr6::from(address?))))
    };
    Ok(links.into_iter().filter_map(of_link).collect())
}

/// One network interface, to be configured.
#[derive(Clone)]
pub struct Link {
    handle: Handle,
    pub name: String,
    pub index: u32,
}

impl Link {
    /// Finds the interface by its name; needs a tokio runtime for the connection's task.
    ///
    /// # Errors
    /// [`LinkError`] where there is no such interface.
    pub async fn open(name: &str) -> Result<Link, LinkError> {
        let (connection, handle, _) = new_connection().map_err(LinkError::Connect)?;
        tokio::spawn(connection);
        let mut link = Link {
            handle,
            name: name.to_owned(),
            index: 0,
        };
        link.index = link.index_of(name).await?;
        Ok(link)
    }

    /// Switches it on.
    pub async fn up(&self) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(self.index).up().build();
        self.done("switching on", self.handle.link().set(message).execute().await)
    }

    /// Switches it off: a card becomes a member of a bond only then.
    pub async fn down(&self) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(self.index).down().build();
        self.done("switching off", self.handle.link().set(message).execute().await)
    }

    /// Makes it a member of a bond, which switches it on.
    pub async fn join(&self, bond: &Link) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(self.index)
            .controller(bond.index)
            .build();
        let joined = self.handle.link().set(message).execute().await;
        self.done(&format!("joining {}", bond.name), joined)
    }

    /// A bond without members, which is made. The kernel asks for its module itself.
    pub async fn bond(&self, bond: &Bond) -> Result<Link, LinkError> {
        let mut message = LinkBond::new(&bond.name)
            .mode(match bond.mode {
                Mode::ActiveBackup => BondMode::ActiveBackup,
                Mode::Lacp => BondMode::Ieee8023Ad,
            })
            .miimon(bond.miimon_ms)
            .updelay(bond.updelay_ms)
            .downdelay(bond.downdelay_ms);
        if bond.mode == Mode::Lacp {
            message = message
                .ad_lacp_rate(match bond.lacp_rate {
                    LacpRate::Fast => BondLacpRate::Fast,
                    LacpRate::Slow => BondLacpRate::Slow,
                })
                .xmit_hash_policy(match bond.xmit_hash_policy {
                    XmitHashPolicy::Layer2 => BondXmitHashPolicy::Layer2,
                    XmitHashPolicy::Layer23 => BondXmitHashPolicy::Layer23,
                    XmitHashPolicy::Layer34 => BondXmitHashPolicy::Layer34,
                });
        }
        let added = self.handle.link().add(message.build()).execute().await;
        self.done(&format!("bond {}", bond.name), added)?;
        self.other(&bond.name).await
    }

    pub async fn set_mtu(&self, mtu: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(self.index).mtu(mtu).build();
        self.done(
            &format!("MTU {mtu}"),
            self.handle.link().set(message).execute().await,
        )
    }

    /// The interface of a VLAN on this one (`eth0.100`), made when it is not there yet.
    pub async fn vlan(&self, id: u16) -> Result<Link, LinkError> {
        let name = format!("{}.{id}", self.name);
        if self.index_of(&name).await.is_err() {
            let message = LinkVlan::new(&name, self.index, id).build();
            self.done(
                &format!("VLAN {id}"),
                self.handle.link().add(message).execute().await,
            )?;
        }
        self.other(&name).await
    }

    /// Makes a pair of links of which one leads to the other, and moves the other into a network namespace.
    pub async fn pair(&self, name: &str, other: &str, others: BorrowedFd<'_>) -> Result<Link, LinkError> {
        let made = LinkVeth::new(name, other).build();
        let made = self.handle.link().add(made).execute().await;
        self.done(&format!("the pair {name} and {other}"), made)?;
        let index = self.index_of(other).await?;
        let moved = LinkUnspec::new_with_index(index)
            .setns_by_fd(others.as_raw_fd())
            .build();
        let moved = self.handle.link().set(moved).execute().await;
        self.done(&format!("moving {other}"), moved)?;
        self.other(name).await
    }

    /// Another interface, by its name.
    ///
    /// # Errors
    /// [`LinkError`] where there is none.
    pub async fn other(&self, name: &str) -> Result<Link, LinkError> {
        Ok(Link {
            handle: self.handle.clone(),
            name: name.to_owned(),
            index: self.index_of(name).await?,
        })
    }

    /// Sets an address; the same one again is no error.
    pub async fn set_address(&self, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
        let request = self
            .handle
            .address()
            .add(self.index, IpAddr::V4(address), prefix)
            .replace();
        self.done(&format!("address {address}/{prefix}"), request.execute().await)
    }

    pub async fn remove_address(&self, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(self.index)
            .address(address, prefix)
            .build();
        let removed = self.handle.address().del(message).execute().await;
        self.done(&format!("removing address {address}/{prefix}"), removed)
    }

    /// Sets a route out of this interface; prefix 0 is the default route, no gateway means "on the link".
    pub async fn set_route(
        &self,
        destination: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
    ) -> Result<(), LinkError> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination, prefix)
            .output_interface(self.index);
        if let Some(gateway) = gateway {
            // Some servers give a gateway outside the prefix (a /32, as clouds do).
            route = route.gateway(gateway).onlink();
        }
        let done = self.handle.route().add(route.build()).replace().execute().await;
        self.done(&format!("route {destination}/{prefix}"), done)
    }

    async fn index_of(&self, name: &str) -> Result<u32, LinkError> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_next()
            .await;
        let refused = |cause: String| LinkError::Refused {
            what: "finding".to_owned(),
            link: name.to_owned(),
            cause,
        };
        match found {
            Ok(Some(message)) => Ok(message.header.index),
            Ok(None) => Err(refused("there is no such interface".to_owned())),
            Err(e) => Err(refused(e.to_string())),
        }
    }

    fn done(&self, what: &str, result: Result<(), rtnetlink::Error>) -> Result<(), LinkError> {
        result.map_err(|e| LinkError::Refused {
            what: what.to_owned(),
            link: self.name.clone(),
            cause: e.to_string(),
        })
    }
}
