package infer

import (
	"errors"
	"fmt"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/ops"
)

// CheckKept returns an error if a cache cannot keep that of the model on its device.
func (d *Decoder) CheckKept(k Kept) error { return checkKept(d.device, d.Arch, k) }

// checkKept returns an error if a cache cannot keep that of a model on a device.
func checkKept(dev device.Device, a *configs.Arch, k Kept) error {
	_, quantizes := dev.(device.Quantizer)
	_, sinks := dev.(device.Sinker)
	name := "this device"
	if named, ok := dev.(device.Namer); ok {
		name = named.Name()
	}
	switch {
	case (k.Format.Scaled() || k.Window > 0) && !a.Causal:
		return fmt.Errorf("family %s has no KV cache", a.Family.Name)
	case k.Format.Scaled() && !quantizes:
		return fmt.Errorf("a KV cache of integers works on the processor, not yet on %s", name)
	case k.Format == device.Int4 && a.IsLatent():
		return checkLatentBlocks(a)
	case k.Format == device.Int4 && a.HeadDim%2 != 0:
		return fmt.Errorf("a KV cache of 4 bits needs an even head dim, the model's is %d", a.HeadDim)
	case k.Window < 0 || k.Sinks < 0 || k.Window == 0 && k.Sinks > 0:
		return fmt.Errorf("a window of %d tokens and %d sinks: want a window of 1 or more, or neither", k.Window, k.Sinks)
	case k.Window == 0:
		return nil
	case !sinks:
		return fmt.Errorf("a KV cache with a window works on the processor, not yet on %s", name)
	}
	return checkWindow(a)
}

// blockInt4 is the number of numbers in a block of Int4; see device.Heads.
const blockInt4 = 32

// checkLatentBlocks returns an error if latents do not end with a block: they are read as values without the rotary keys behind them.
func checkLatentBlocks(a *configs.Arch) error {
	for layer := range a.Layers {
		if rank := a.At(layer).Latent.Rank; rank%blockInt4 != 0 {
			return fmt.Errorf("a KV cache of 4 bits needs latents of a multiple of %d numbers, the model's have %d", blockInt4, rank)
		}
	}
	return nil
}

// checkWindow returns an error if a model cannot attend to a window with sinks.
func checkWindow(a *configs.Arch) error {
	if a.IsLatent() {
		return errors.New("a window cannot be combined with latent attention, whose values are parts of its keys")
	}
	if a.Position == configs.PositionALiBi || a.Position == configs.PositionT5 {
		return errors.New("a window cannot be combined with biases for the distance of tokens (ALiBi, T5)")
	}
	for layer := range a.Layers {
		if w := a.LayerWindow(layer); w > 0 {
			return fmt.Errorf("the model has a sliding window of its own, of %d tokens", w)
		}
	}
	return nil
}

// passed holds keys and values of one site, in the format of a cache.
type passed struct {
	keys, values device.Heads
	format       device.Format
	rows         int // of one head
}

// keepsAsIs reports whether a cache keeps keys and values as they are computed.
func (e *engine) keepsAsIs() bool {
	return e.kept.Format == device.F32 || e.kept.Format == e.device.Activations()
}

// throughCache returns the keys and values of length tokens per sequence as a cache would keep them, valid until the next call.
func (e *engine) throughCache(k, v Mat, a ops.Attention[Mat], seqs, length int) (keys, values device.Heads) {
	latent := v.Rows == 0 // values are parts of the keys
	if latent {
		v = k
	}
	if e.keepsAsIs() {
		return rows(k, length, a.HeadDim), rows(v, length, a.HeadDim)
	}
	need, p := seqs*a.KVHeads*length, &e.passed
	if p.format != e.kept.Format || p.rows < need || p.keys.Row != a.HeadDim {
		e.releasePassing()
		room := func() device.Heads { return newHeads(e.device, 1, a.HeadDim, 1, need, e.kept.Format) }
		*p = passed{room(), room(), e.kept.Format, need}
	}
	keys, values = p.keys, p.values
	for _, h := range []*device.Heads{&keys, &values} {
		h.Head, h.Seq = length*a.HeadDim, a.KVHeads*length*a.HeadDim
	}
	if latent {
		e.device.Store(keys, device.Heads{}, 0, k.Buffer, device.Buffer{}, seqs, length, a.HeadDim)
		return keys, keys
	}
	e.device.Store(keys, values, 0, k.Buffer, v.Buffer, seqs, length, a.HeadDim)
	return keys, values
}

// releasePassing frees what throughCache has allocated.
func (e *engine) releasePassing() {
	p := e.passed
	free(e.device, p.keys.Buffer, p.keys.Scales, p.values.Buffer, p.values.Scales)
	e.passed = passed{}
}
