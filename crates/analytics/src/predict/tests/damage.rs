//! Model files that are damaged, cut, of another format or of another model.

use super::*;

fn risk(bytes: &[u8]) -> Result<RiskModel, BadModel> {
    RiskModel::read(bytes)
}

/// The file with the first place of `from` replaced by `to`, which is as long.
fn with(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = file("icu-mortality-1.cbor");
    let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn a_cut_model_is_refused_wherever_it_is_cut() {
    let bytes = file("icu-mortality-1.cbor");
    for length in (0..bytes.len()).step_by(331).chain([bytes.len() - 1]) {
        assert!(matches!(risk(&bytes[..length]), Err(BadModel::Malformed(_))), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(risk(&longer), Err(BadModel::NotDeterministic));
}

#[test]
fn another_format_another_model_and_other_features_are_refused_by_name() {
    assert_eq!(risk(&with(b"model/1", b"model/9")), Err(BadModel::Format("vitaltrace/model/9".into())));
    let other = BadModel::Other { got: "next-hour-1".into(), expected: "icu-mortality-1" };
    assert_eq!(risk(&file("next-hour-1.cbor")), Err(other));
    let renamed = risk(&with(b"heart-rate.last", b"heart-rate.lust"));
    assert_eq!(renamed, Err(BadModel::Features { output: "death-in-hospital".into(), place: 1 }));
    assert_eq!(risk(&with(b"death-in-", b"birth-in-")), Err(BadModel::Outputs("icu-mortality-1")));
    assert_eq!(risk(&vec![0; MODEL_BYTES_MAX + 1]), Err(BadModel::TooLong { got: MODEL_BYTES_MAX + 1 }));
}

#[test]
fn an_item_in_a_longer_form_than_it_needs_is_refused() {
    // The array of three in two bytes instead of one.
    let bytes = file("icu-mortality-1.cbor");
    let longer = [&[0x98, 0x03], &bytes[1..]].concat();
    assert_eq!(risk(&longer), Err(BadModel::NotDeterministic));
}

#[test]
fn no_changed_byte_makes_the_reader_panic_or_keeps_the_hash() {
    let bytes = file("icu-mortality-1.cbor");
    let whole = risk(&bytes).unwrap();
    let mut chance = Chance(7);
    println!("seed 7");
    let mut read = 0;
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        let at = (chance.unit() * damaged.len() as f64) as usize;
        damaged[at] ^= 1 << (chance.unit() * 8.0) as u32;
        if let Ok(model) = risk(&damaged) {
            read += 1;
            assert_ne!(model.hash(), whole.hash());
            // What was read walks to a leaf whatever the features are.
            let row = vec![f64::NAN; risk_features::names().len()];
            model.0.outputs.iter().for_each(|output| assert!(output.score(&row).is_finite()));
        }
    }
    println!("{read} of 300 changed files could be read: a number in them was changed");
}

fn tree(
    feature: &[u16],
    threshold: &[f32],
    left: &[i16],
    right: &[i16],
    absent: &[u8],
    leaf: &[f32],
) -> Result<Tree, BadModel> {
    let bytes = [
        feature.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        threshold.iter().flat_map(|x| x.to_le_bytes()).collect(),
        left.iter().flat_map(|x| x.to_le_bytes()).collect(),
        right.iter().flat_map(|x| x.to_le_bytes()).collect(),
        absent.to_vec(),
        leaf.iter().flat_map(|x| x.to_le_bytes()).collect(),
    ];
    Tree::read(std::array::from_fn(|at| Packed(&bytes[at])), 2)
}

#[test]
fn a_tree_goes_left_up_to_its_threshold_and_where_it_says_for_what_is_absent() {
    let two = tree(&[0, 1], &[1.5, 0.0], &[1, -1], &[-3, -2], &[0, 1], &[10.0, 20.0, 30.0]).unwrap();
    let rows = [[1.5, 0.0], [1.5, 0.1], [1.6, 0.0], [f64::NAN, 0.0], [0.0, f64::NAN]];
    assert_eq!(rows.map(|row| two.value(&row)), [10.0, 20.0, 30.0, 30.0, 10.0]);
    assert_eq!(tree(&[], &[], &[], &[], &[], &[4.0]).unwrap().value(&[0.0, 0.0]), 4.0);
}

#[test]
fn a_tree_that_goes_round_or_leads_nowhere_is_refused() {
    let nowhere = Err(BadModel::Tree("a split leads nowhere"));
    let lengths = Err(BadModel::Tree("its lists do not have the lengths of a tree"));
    assert_eq!(tree(&[0], &[1.0], &[0], &[-2], &[0], &[1.0, 2.0]), nowhere, "to itself");
    assert_eq!(tree(&[0, 0], &[1.0, 1.0], &[1, 0], &[-1, -2], &[0, 0], &[1.0, 2.0, 3.0]), nowhere, "back");
    assert_eq!(tree(&[0], &[1.0], &[-1], &[-3], &[0], &[1.0, 2.0]), nowhere, "to a leaf that there is not");
    assert_eq!(tree(&[0], &[1.0], &[-1], &[i16::MIN], &[0], &[1.0, 2.0]), nowhere, "to the farthest leaf");
    assert_eq!(tree(&[0], &[1.0], &[-1], &[-2], &[2], &[1.0, 2.0]), nowhere, "a flag that is none");
    assert_eq!(tree(&[0], &[1.0], &[-1], &[-2], &[0], &[1.0]), lengths);
    assert_eq!(tree(&[], &[], &[], &[], &[], &[]), lengths);
    let feature = Err(BadModel::Tree("a split asks for a feature that there is not"));
    assert_eq!(tree(&[2], &[1.0], &[-1], &[-2], &[0], &[1.0, 2.0]), feature);
    let number = Err(BadModel::Tree("a threshold or a leaf is no number"));
    assert_eq!(tree(&[0], &[f32::NAN], &[-1], &[-2], &[0], &[1.0, 2.0]), number);
}

#[test]
fn a_damaged_linear_part_is_refused() {
    let read = |lists: [&[f64]; 6]| {
        let bytes = lists.map(|list| list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        Linear::read(std::array::from_fn(|at| Packed(&bytes[at])), 1).map(|linear| linear.value(&[5.0]))
    };
    assert_eq!(read([&[1.0], &[2.0], &[1.0], &[10.0], &[20.0], &[30.0]]), Ok(31.0));
    assert_eq!(read([&[1.0], &[], &[], &[], &[], &[]]), Ok(1.0));
    assert!(matches!(read([&[], &[2.0], &[1.0], &[1.0], &[1.0], &[1.0]]), Err(BadModel::Linear(_))));
    assert!(matches!(read([&[1.0], &[2.0], &[0.0], &[1.0], &[1.0], &[1.0]]), Err(BadModel::Linear(_))));
    assert!(matches!(read([&[1.0], &[2.0], &[1.0], &[1.0], &[], &[1.0]]), Err(BadModel::Linear(_))));
    assert!(matches!(read([&[f64::NAN], &[], &[], &[], &[], &[]]), Err(BadModel::Numbers(_))));
    assert_eq!(Packed(&[0; 7]).finite(), Err(BadModel::Numbers("cut")));
}
