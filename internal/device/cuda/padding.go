//go:build cuda && linux

package cuda

import "gqa/internal/device"

// padding makes keys and values equally wide for cuDNN, which takes few pairs of widths: numbers of zero change neither scores nor
// what is read of the results.
type padding struct {
	d    *Device
	s    device.Scores // with equal widths
	all  []device.Buffer
	back []func()
}

// newPadding returns the padding of an attention, or the reason why cuDNN would not compute it.
func (d *Device) newPadding(o onDevice, views ...device.Heads) (*padding, error) {
	p := &padding{d: d, s: o.Scores}
	p.s.HeadDim, p.s.ValueDim = widthsOf(o.Scores).most(), 0
	_, err := d.dnnAttention(p.s, views...)
	return p, err
}

// room returns room for heads of another width, or h if it is as wide.
func (p *padding) room(h device.Heads, rows, heads, width int) device.Heads {
	if width == p.s.HeadDim {
		return h
	}
	wide := p.d.resized(h, p.s.Batch, rows, heads, p.s.HeadDim)
	p.all = append(p.all, wide.Buffer)
	return wide
}

// in returns heads with zeros at their ends.
func (p *padding) in(h device.Heads, rows, heads, width int) device.Heads {
	wide := p.room(h, rows, heads, width)
	if width < p.s.HeadDim {
		p.d.resize(wide, h, p.s.Batch, rows, heads, width, p.s.HeadDim)
	}
	return wide
}

// out returns room for results, which end copies to h.
func (p *padding) out(h device.Heads, rows, heads, width int) device.Heads {
	wide := p.room(h, rows, heads, width)
	if width < p.s.HeadDim {
		p.back = append(p.back, func() { p.d.resize(h, wide, p.s.Batch, rows, heads, p.s.HeadDim, width) })
	}
	return wide
}

// end copies the results, unless there was an error, and frees the room for them.
func (p *padding) end(err error) {
	for _, copied := range p.back {
		if err == nil {
			copied()
		}
	}
	for _, b := range p.all {
		p.d.Free(b)
	}
}

// attendPadded is attendDNN for any widths.
func (d *Device) attendPadded(o onDevice, out device.Heads, lse device.Buffer, q, k, v device.Heads) error {
	w := widthsOf(o.Scores)
	if w.keys == w.values {
		return d.attendDNN(o, out, lse, q, k, v)
	}
	p, err := d.newPadding(o, q, k, v, out)
	if err != nil {
		return err
	}
	s := o.Scores
	o.Scores = p.s
	err = d.attendDNN(o, p.out(out, s.Queries, s.Heads, w.values), lse,
		p.in(q, s.Queries, s.Heads, w.keys), p.in(k, s.Keys, s.KVHeads, w.keys), p.in(v, s.Keys, s.KVHeads, w.values))
	p.end(err)
	return err
}

// attendBackwardPadded is attendBackwardDNN for any widths.
func (d *Device) attendBackwardPadded(o onDevice, dq, dk, dv device.Heads, dbias device.Buffer, dout, out device.Heads, lse device.Buffer, q, k, v device.Heads) error {
	w := widthsOf(o.Scores)
	if w.keys == w.values {
		return d.attendBackwardDNN(o, dq, dk, dv, dbias, dout, out, lse, q, k, v)
	}
	p, err := d.newPadding(o, q, k, v, out, dq, dk, dv, dout)
	if err != nil {
		return err
	}
	s := o.Scores
	o.Scores = p.s
	err = d.attendBackwardDNN(o,
		p.out(dq, s.Queries, s.Heads, w.keys), p.out(dk, s.Keys, s.KVHeads, w.keys), p.out(dv, s.Keys, s.KVHeads, w.values), dbias,
		p.in(dout, s.Queries, s.Heads, w.values), p.in(out, s.Queries, s.Heads, w.values), lse,
		p.in(q, s.Queries, s.Heads, w.keys), p.in(k, s.Keys, s.KVHeads, w.keys), p.in(v, s.Keys, s.KVHeads, w.values))
	p.end(err)
	return err
}
