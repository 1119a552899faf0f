//! What was looked up lately, in bounded memory: two generations, of which the older goes when the younger is full.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A map that forgets what was not asked for in a while. It holds twice `max` entries at most.
pub(crate) struct Recent<K, V> {
    max: usize,
    generations: Mutex<[HashMap<K, V>; 2]>,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, generations: Mutex::new([HashMap::new(), HashMap::new()]) }
    }

    fn lock(&self) -> MutexGuard<'_, [HashMap<K, V>; 2]> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was put last.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut generations = self.lock();
        let [young, old] = &mut *generations;
        if let Some(value) = young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = old.remove_entry(key)?;
        insert(&mut generations, self.max, key, value.clone());
        Some(value)
    }

    pub(crate) fn put(&self, key: K, value: V) {
        insert(&mut self.lock(), self.max, key, value);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().iter().map(HashMap::len).sum()
    }
}

fn insert<K: Hash + Eq, V>(generations: &mut [HashMap<K, V>; 2], max: usize, key: K, value: V) {
    let [young, old] = generations;
    if young.len() >= max {
        *old = std::mem::take(young);
    }
    old.remove(&key);
    young.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes_in_time() {
        let recent: Recent<u32, u32> = Recent::new(10);
        recent.put(0, 7);
        for n in 1..100 {
            recent.put(n, n);
            assert_eq!(recent.get(&0), Some(7), "{n}");
            assert!(recent.len() <= 20);
        }
        assert_eq!((recent.get(&1), recent.get(&99)), (None, Some(99)));
        recent.put(99, 1);
        assert_eq!(recent.get(&99), Some(1), "what was put last");
    }
}
