"""Parsing compiled programs: lines in the style of the compilers for CPU, CUDA and TPU, counted by hand."""

import pytest

from alexnet_jax.inspect.targets import hlo

TEXT = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (p: bf16[1,8,4], q: f32[6]) -> bf16[2,8,4] {
  %p = bf16[1,8,4]{2,1,0:T(8,128)(2,1)} parameter(0)
  %q = f32[6]{0} parameter(1)
  %gather = (bf16[1,8,4]{2,1,0}, bf16[2,8,4]{2,1,0}) all-gather-start(%p), channel_id=1, replica_groups={{0,1},{2,3}}, dimensions={0}, metadata={op_name="jit(step)/jvp()/shard_map/conv3/all_gather"}
  %gathered = bf16[2,8,4]{2,1,0} all-gather-done(%gather)
  %scatter = ((bf16[2,8,4]{2,1,0:T(8,128)(2,1)S(1)}), bf16[1,8,4]{2,1,0}) reduce-scatter-start(%gathered), replica_groups=[2,2]<=[4], to_apply=%add
  %scattered = bf16[1,8,4]{2,1,0} reduce-scatter-done(%scatter)
  %sums = (f32[6]{0}, /*index=1*/f32[6]{0:T(128)S(1)}) all-reduce-start(%q, %q), replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%add
  %summed = (f32[6]{0}, f32[6]{0}) all-reduce-done(%sums)
  ROOT %back = bf16[2,8,4]{2,1,0} all-gather(%scattered), replica_groups={{0,1},{2,3}}, dimensions={0}
}
"""  # noqa: E501


@pytest.mark.parametrize(("named", "groups"), [
    ("mesh['data'=2,'column'=2] {'column'}", ((0, 1), (2, 3))),
    ("mesh['data'=2,'column'=2] {'data'}", ((0, 2), (1, 3))),
    ("mesh['data'=1,'column'=2] {'column'}", ((0, 1),)),
    ("mesh['data'=2,'column'=2] {'data','column'}", ((0, 1, 2, 3),)),
])
def test_groups_by_the_mesh(named, groups):
    text = TEXT.replace("replica_groups={{0,1},{2,3}}, dimensions={0}, metadata", f"replica_groups={named}, metadata")
    assert hlo.collectives(text)[0].groups == groups


def test_collectives_by_hand():
    gather, scatter, reduce, back = hlo.collectives(TEXT)
    assert (gather.kind, gather.handed_in, gather.received, gather.operands) == ("all-gather", 64, 128, 1)
    assert gather.where == "jit(step)/jvp()/shard_map/conv3/all_gather"
    assert (scatter.kind, scatter.handed_in, scatter.received) == ("reduce-scatter", 128, 64)
    assert (reduce.kind, reduce.handed_in, reduce.received, reduce.operands) == ("all-reduce", 48, 48, 2)
    assert (back.kind, back.handed_in, back.received) == ("all-gather", 64, 128)
    assert gather.groups == scatter.groups == ((0, 1), (2, 3))
    assert reduce.groups == ((0, 2), (1, 3))
    assert [hlo.axis_of(x, 2, 2) for x in (gather, scatter, reduce, back)] == ["column", "column", "data", "column"]


@pytest.mark.parametrize(("groups", "data", "column", "axis"), [
    ("{{0,1}}", 1, 2, "column"), ("{{0,1}}", 2, 1, "data"), ("{{0,1,2,3}}", 2, 2, "both"), ("{}", 2, 2, "both"),
    ("{{0,3},{1,2}}", 2, 2, "other"), ("{{0,1}}", 2, 2, "other"), ("[2,4]<=[4,2]T(1,0)", 4, 2, "data"),
    ("[4,2]<=[8]", 4, 2, "column"), ("[1,8]<=[8]", 4, 2, "both")])
def test_the_axis_that_devices_lie_along(groups, data, column, axis):
    line = f"%x = f32[4]{{0}} all-reduce(%x), replica_groups={groups}, to_apply=%add"
    assert hlo.axis_of(hlo.collectives(line)[0], data, column) == axis


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="unknown form"):
        hlo.collectives("%x = f32[4]{0} all-reduce(%x), replica_groups=@elsewhere, to_apply=%add")
    loop = ("%body (p: f32[4]) -> f32[4] {\n  %x = f32[4]{0} all-reduce(%x), replica_groups={{0,1}}\n}\n"
            "%w = f32[4]{0} while(%x), condition=%cond, body=%body")
    with pytest.raises(ValueError, match="x is inside a loop"):
        hlo.collectives(loop)


def test_products_by_hand():
    text = """
  %a = f32[5,7]{1,0} parameter(0)
  %b = f32[3,7]{1,0} parameter(1)
  %c = f32[5,3]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={1}
  %x = f32[2,9,9,4]{3,2,1,0} parameter(2)
  %k = f32[3,3,4,6]{3,2,1,0} parameter(3)
  %y = f32[2,9,9,6]{3,2,1,0} convolution(%x, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
"""
    assert hlo.multiply_adds(text) == 5 * 3 * 7 + 2 * 9 * 9 * 6 * (3 * 3 * 4)
