//! A value for each IP family.

use crate::IpFamily;

/// A value for each IP family, or for one of them, in the order of [`IpFamily::BOTH`].
///
/// A map would add about 10 KB of code to the program for each type of value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerFamily<T> {
    ipv4: Option<T>,
    ipv6: Option<T>,
}

impl<T> PerFamily<T> {
    /// Without values.
    pub const fn new() -> Self {
        Self { ipv4: None, ipv6: None }
    }

    fn place(&mut self, family: IpFamily) -> &mut Option<T> {
        match family {
            IpFamily::Ipv4 => &mut self.ipv4,
            IpFamily::Ipv6 => &mut self.ipv6,
        }
    }

    /// The value of a family.
    pub fn get(&self, family: IpFamily) -> Option<&T> {
        match family {
            IpFamily::Ipv4 => self.ipv4.as_ref(),
            IpFamily::Ipv6 => self.ipv6.as_ref(),
        }
    }

    /// The mutable value of a family.
    pub fn get_mut(&mut self, family: IpFamily) -> Option<&mut T> {
        self.place(family).as_mut()
    }

    /// The value of a family; if there is none, the default becomes its value.
    pub fn get_or_default(&mut self, family: IpFamily) -> &mut T
    where
        T: Default,
    {
        self.place(family).get_or_insert_default()
    }

    /// Sets the value of a family and returns the previous one.
    pub fn insert(&mut self, family: IpFamily, value: T) -> Option<T> {
        self.place(family).replace(value)
    }

    /// Removes the value of a family and returns it.
    pub fn remove(&mut self, family: IpFamily) -> Option<T> {
        self.place(family).take()
    }

    /// Whether no family has a value.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_none() && self.ipv6.is_none()
    }

    /// The families with a value, and their values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (IpFamily, &T)> {
        let [ipv4, ipv6] = IpFamily::BOTH;
        let ipv4 = self.ipv4.iter().map(move |value| (ipv4, value));
        ipv4.chain(self.ipv6.iter().map(move |value| (ipv6, value)))
    }

    /// The families with a value, and their mutable values.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (IpFamily, &mut T)> {
        let [ipv4, ipv6] = IpFamily::BOTH;
        let ipv4 = self.ipv4.iter_mut().map(move |value| (ipv4, value));
        ipv4.chain(self.ipv6.iter_mut().map(move |value| (ipv6, value)))
    }

    /// The families with a value.
    pub fn families(&self) -> impl DoubleEndedIterator<Item = IpFamily> {
        self.iter().map(|(family, _)| family)
    }

    /// The values, IPv4 first.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// The mutable values.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.ipv4.iter_mut().chain(&mut self.ipv6)
    }
}

impl<T> Default for PerFamily<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Of several values of a family, the last.
impl<T> FromIterator<(IpFamily, T)> for PerFamily<T> {
    fn from_iter<I: IntoIterator<Item = (IpFamily, T)>>(values: I) -> Self {
        let mut all = Self::new();
        values.into_iter().for_each(|(family, value)| *all.place(family) = Some(value));
        all
    }
}

impl<T> IntoIterator for PerFamily<T> {
    type Item = (IpFamily, T);
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<(IpFamily, T)>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        let [ipv4, ipv6] = IpFamily::BOTH;
        [self.ipv4.map(|value| (ipv4, value)), self.ipv6.map(|value| (ipv6, value))]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_family_has_the_last_value_of_each_family_in_order() {
        let values = [(IpFamily::Ipv6, 1), (IpFamily::Ipv4, 2), (IpFamily::Ipv6, 3)];
        let mut all: PerFamily<i32> = values.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), [(IpFamily::Ipv4, &2), (IpFamily::Ipv6, &3)]);
        assert_eq!(all.get(IpFamily::Ipv6), Some(&3));
        assert_eq!(all.insert(IpFamily::Ipv6, 4), Some(3));
        assert_eq!(all.remove(IpFamily::Ipv4), Some(2));
        assert_eq!(all.clone().into_iter().collect::<Vec<_>>(), [(IpFamily::Ipv6, 4)]);
        assert_eq!(*all.get_or_default(IpFamily::Ipv4), 0);
        assert_eq!(all.families().collect::<Vec<_>>(), IpFamily::BOTH);
    }
}
