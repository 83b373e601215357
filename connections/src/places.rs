//! Places that many may take: so many for each holder, so many in all.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts who holds how many. Clones count together.
#[derive(Clone, Debug)]
pub struct Places<K> {
    held: Arc<Mutex<Held<K>>>,
    in_all: usize,
}

#[derive(Debug)]
struct Held<K> {
    by_holder: HashMap<K, usize>,
    in_all: usize,
}

/// One that is held until it is dropped.
#[derive(Debug)]
pub struct Place<K: Hash + Eq> {
    held: Arc<Mutex<Held<K>>>,
    holder: K,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The holder has so many, and may not have more.
    Holder(usize),
    /// All together have so many.
    All(usize),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder(most) => write!(f, "it has {most} already, and one may have {most}"),
            Self::All(most) => write!(f, "there are {most} already, and all together may have {most}"),
        }
    }
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// At most `in_all` at a time.
    pub fn new(in_all: usize) -> Self {
        let held = Held {
            by_holder: HashMap::new(),
            in_all: 0,
        };
        Self {
            held: Arc::new(Mutex::new(held)),
            in_all,
        }
    }

    /// Takes a place for a holder who may have `most`.
    ///
    /// # Errors
    /// [`Full`]: the holder, or all together, have as many as they may.
    pub fn take(&self, holder: K, most: usize) -> Result<Place<K>, Full> {
        let mut held = lock(&self.held);
        let has = held.by_holder.get(&holder).copied().unwrap_or(0);
        // Its own bound first: it says whose doing it is.
        if has >= most {
            return Err(Full::Holder(most));
        }
        if held.in_all >= self.in_all {
            return Err(Full::All(self.in_all));
        }
        held.in_all += 1;
        held.by_holder.insert(holder.clone(), has + 1);
        Ok(Place {
            held: self.held.clone(),
            holder,
        })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        lock(&self.held).in_all
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.in_all -= 1;
        if let Some(has) = held.by_holder.get_mut(&self.holder) {
            *has -= 1;
            if *has == 0 {
                held.by_holder.remove(&self.holder);
            }
        }
    }
}

fn lock<K>(held: &Mutex<Held<K>>) -> MutexGuard<'_, Held<K>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whom an address stands for: whoever has one of IPv6 has the 2^64 of its network.
pub fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_given_back_is_taken_again_and_nothing_is_kept_of_its_holder() {
        let places = Places::new(3);
        let first = places.take("a", 2).ok();
        let second = places.take("a", 2).ok();
        assert_eq!(places.take("a", 2).err(), Some(Full::Holder(2)));
        let third = places.take("b", 2).ok();
        assert_eq!(places.take("c", 2).err(), Some(Full::All(3)));
        drop(second);
        assert!(places.take("a", 2).is_ok());
        drop((first, third));
        assert_eq!(places.taken(), 0);
        assert!(lock(&places.held).by_holder.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let peer = |text: &str| peer_of(text.parse().expect("an address"));
        assert_eq!(peer("2001:db8:1:2:3:4:5:6"), peer("2001:db8:1:2::1"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
        assert_eq!(peer("::1").to_string(), "::1");
    }
}
