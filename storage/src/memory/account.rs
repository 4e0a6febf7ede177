//! One bound for the bytes of several databases: what each holds, what all hold, and whose turn it is to give back.
//!
//! Whose turn: from half of the bound on, of all that hold no less than the average. There is always one of them, so memory
//! comes free, and those that hold little are left alone, so that they do not write a small file each time. Who cannot give
//! back ([`Standing::Stuck`]) is left out of the average, and what it holds of the bound: else it would be the only one
//! above the average for good, or the others would be beyond half with their first rows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of several databases, and their bound.
#[derive(Debug)]
pub(crate) struct Account {
    bytes_max: usize,
    /// Held for moments; no other lock is taken under it.
    sums: Mutex<Sums>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    able: Sum,
    stuck: Sum,
}

/// Of all of one standing.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    bytes: usize,
    /// How many hold anything.
    holders: usize,
}

/// Whether a database can give back what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As far as is known.
    Able,
    /// It tried, and failed.
    Stuck,
}

impl Account {
    /// Of nobody yet.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, sums: Mutex::default() })
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What all hold together.
    pub(crate) fn bytes(&self) -> usize {
        let sums = *self.sums();
        sums.able.bytes.saturating_add(sums.stuck.bytes)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes_max <= self.bytes()
    }

    /// Whether three quarters are taken.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.bytes_max / 4 * 3 <= self.bytes()
    }

    /// Whether it is the turn of who holds so many bytes.
    pub(crate) fn is_turn_of(&self, bytes: usize) -> bool {
        let sums = *self.sums();
        sums.is_short(self.bytes_max) && sums.able.bytes <= bytes.saturating_mul(sums.able.holders)
    }

    /// A share for one more database, which holds nothing yet.
    pub(crate) fn join(self: &Arc<Self>) -> Share {
        Share { account: Arc::clone(self), bytes: 0, standing: Standing::Able }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    /// Whether half is taken of what the stuck ones leave.
    fn is_short(&self, bytes_max: usize) -> bool {
        bytes_max.saturating_sub(self.stuck.bytes) / 2 <= self.able.bytes
    }

    fn of(&mut self, standing: Standing) -> &mut Sum {
        match standing {
            Standing::Able => &mut self.able,
            Standing::Stuck => &mut self.stuck,
        }
    }
}

/// What one database holds of an account; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    account: Arc<Account>,
    bytes: usize,
    standing: Standing,
}

impl Share {
    /// Of an account without a bound that nobody else has a share in.
    pub(crate) fn of_none() -> Self {
        Account::new(usize::MAX).join()
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Says what the database holds now; tells whether it may be the turn of another since then, or another may take
    /// more.
    pub(crate) fn set_bytes(&mut self, bytes: usize) -> bool {
        self.change(bytes, self.standing)
    }

    /// As [`Share::set_bytes`], of whether it can give back.
    pub(crate) fn set_standing(&mut self, standing: Standing) -> bool {
        self.change(self.bytes, standing)
    }

    fn change(&mut self, bytes: usize, standing: Standing) -> bool {
        if (bytes, standing) == (self.bytes, self.standing) {
            return false;
        }
        let mut sums = self.account.sums();
        let was_short = sums.is_short(self.account.bytes_max);
        let before = sums.of(self.standing);
        before.bytes -= self.bytes;
        before.holders -= usize::from(0 < self.bytes);
        let after = sums.of(standing);
        after.bytes += bytes;
        after.holders += usize::from(0 < bytes);
        let is_short = sums.is_short(self.account.bytes_max);
        drop(sums);
        // The average of the others fell with what this one gave back, or took out of it.
        let is_less = bytes < self.bytes || standing != self.standing;
        (self.bytes, self.standing) = (bytes, standing);
        was_short != is_short || (is_short && is_less)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.change(0, self.standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An account of 100 bytes and shares of these.
    fn shares(bytes: &[usize]) -> (Arc<Account>, Vec<Share>) {
        let account = Account::new(100);
        let share = |bytes: &usize| {
            let mut share = account.join();
            share.set_bytes(*bytes);
            share
        };
        let shares = bytes.iter().map(share).collect();
        (account, shares)
    }

    #[test]
    fn turn_comes_at_half_to_those_that_hold_the_average() {
        for (bytes, turns) in [
            (&[30, 19, 0, 0][..], &[][..]),
            (&[30, 20, 0, 0], &[30]),
            (&[30, 60, 10, 10], &[30, 60]),
            (&[25, 25], &[25]),
            (&[1, 1, 1, 97], &[97]),
        ] {
            let (account, _shares) = shares(bytes);
            let found: Vec<usize> = (1..=100).filter(|bytes| account.is_turn_of(*bytes)).collect();
            let mut found: Vec<usize> = bytes.iter().copied().filter(|one| found.contains(one)).collect();
            found.dedup();
            assert_eq!(found, turns, "{bytes:?}");
        }
    }

    #[test]
    fn stuck_one_leaves_the_others_their_turns_and_what_it_does_not_hold() {
        let (account, mut shares) = shares(&[75, 9, 2]);
        assert!(account.is_turn_of(75) && !account.is_turn_of(9));
        shares[0].set_standing(Standing::Stuck);
        assert!(!account.is_turn_of(9), "11 of 25");
        shares[2].set_bytes(3);
        assert!(account.is_turn_of(9) && !account.is_turn_of(3));
        assert!((account.bytes(), account.is_nearly_full(), account.is_full()) == (87, true, false));
        shares[0].set_standing(Standing::Able);
        assert!(account.is_turn_of(75) && !account.is_turn_of(9));
    }

    #[test]
    fn others_are_told_when_their_turn_may_have_come() {
        let (_account, mut shares) = shares(&[30, 10, 0]);
        assert!(!shares[2].set_bytes(9), "nothing changes for them");
        assert!(shares[2].set_bytes(10), "half is taken");
        assert!(!shares[2].set_bytes(70), "and more: it is the turn of this one");
        assert!(shares[2].set_bytes(20), "less, and still half");
        assert!(shares[2].set_bytes(0), "no longer short");
        assert!(!shares[2].set_bytes(0));
        assert!(!shares[0].set_standing(Standing::Stuck), "10 of 70");
        assert!(shares[1].set_bytes(40) && shares[0].set_standing(Standing::Able), "40 of 70, 70 of 100");
        assert!(!shares[0].set_standing(Standing::Able));
    }

    #[test]
    fn share_that_is_dropped_gives_all_back() {
        let (account, mut shares) = shares(&[70, 40]);
        assert!(account.is_full());
        shares[0].set_standing(Standing::Stuck);
        drop(shares.remove(0));
        assert_eq!(account.bytes(), 40);
        drop(shares);
        let sums = *account.sums();
        assert_eq!((account.bytes(), sums.able.holders, sums.stuck.holders), (0, 0, 0));
    }

    /// Whoever holds what: there is a turn as soon as half is taken of what stuck ones leave.
    #[test]
    fn turn_is_always_somebodys_from_half_on() {
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((random >> 33) % bound).unwrap()
        };
        for _ in 0..10_000 {
            let bytes: Vec<usize> = (0..=below(8)).map(|_| below(60)).collect();
            let (account, mut shares) = shares(&bytes);
            let stuck = below(9);
            shares.iter_mut().take(stuck).for_each(|share| {
                share.set_standing(Standing::Stuck);
            });
            let (gone, able) = bytes.split_at(stuck.min(bytes.len()));
            let (gone, sum): (usize, usize) = (gone.iter().sum(), able.iter().sum());
            let is_short = 100_usize.saturating_sub(gone) / 2 <= sum && 0 < sum;
            let has_turn = able.iter().any(|bytes| 0 < *bytes && account.is_turn_of(*bytes));
            assert_eq!(has_turn, is_short, "{bytes:?}, {stuck} stuck");
        }
    }
}
