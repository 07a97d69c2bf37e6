package infer

import (
	"context"
	"errors"
	"fmt"

	"gqa/internal/ops"
)

// Encode runs the encoder on a source of c.Seqs sequences, once for all following steps, and caches the keys and values
// of the decoder's cross-attention. It drops tokens in the cache, which belong to another source.
func (d *Decoder) Encode(c *Cache, source ops.Batch) error {
	if err := d.checkSource(c.Seqs, &source); err != nil {
		return err
	}
	d.forget()
	c.cross.free()
	c.Len, c.SourceLen, c.sourceLens = 0, source.Len, source.Lens
	c.cross = newStore(d.device, d.Arch.Layers, false, d.crossSize, c.Seqs, source.Len, c.kept.Format)
	d.eng.reset()
	d.eng.cache = nil // the encoder has no cache
	d.model.Encode(d.eng, source, func(site int, k, v Mat) { c.cross.write(site, source, 0, k, v) })
	return nil
}

// FreeSource frees the memory of what Encode has cached. The encoder must read another source before the next step.
func (d *Decoder) FreeSource(c *Cache) {
	d.forget()
	c.cross.free()
	c.SourceLen = 0
}

// FillSource fills the cache as if an encoder had read n tokens of each sequence, for timing decoding.
func (d *Decoder) FillSource(ctx context.Context, c *Cache, n int) {
	d.forget()
	c.SourceLen, c.sourceLens = n, nil
	c.cross = newStore(d.device, d.Arch.Layers, false, d.crossSize, c.Seqs, n, c.kept.Format)
	c.cross.fill(ctx, c.Seqs, n)
}

// checkSource returns an error if the model cannot read the source, or if there is none although the model needs one.
func (d *Decoder) checkSource(seqs int, source *ops.Batch) error {
	switch {
	case d.Arch.EncoderLayers == 0 && source != nil:
		return fmt.Errorf("family %s has no encoder to read a source", d.Arch.Family.Name)
	case d.Arch.EncoderLayers > 0 && source == nil:
		return errors.New("the model's encoder has read nothing")
	case source != nil && (source.Seqs != seqs || source.Len == 0):
		return fmt.Errorf("a source of %d sequences of %d tokens for %d sequences", source.Seqs, source.Len, seqs)
	}
	return nil
}

// crossSize returns the number of KV heads of a layer's cross-attention, and their width.
func (d *Decoder) crossSize(int) (heads, width int) { return d.Arch.CrossKVHeads, d.Arch.HeadDim }
