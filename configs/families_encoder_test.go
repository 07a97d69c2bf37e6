package configs

import (
	"slices"
	"strings"
	"testing"

	"gqa/internal/activation"
)

// TestT5Variants reads T5's config.json as written by different releases.
func TestT5Variants(t *testing.T) {
	for config, want := range map[string]struct {
		mlp    MLP
		act    activation.Func
		scaled bool
	}{
		``: {Plain, activation.ReLU, true},
		`, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false`:                                {Gated, activation.GELUTanh, false},
		`, "feed_forward_proj": "gated-silu"`:                                                              {Gated, activation.SiLU, true},
		`, "feed_forward_proj": "gelu"`:                                                                    {Plain, activation.GELU, true},
		`, "is_gated_act": true, "dense_act_fn": "gelu_new", "scale_decoder_outputs": false`:               {Gated, activation.GELUTanh, false},
		`, "tie_word_embeddings": true, "scale_decoder_outputs": false, "feed_forward_proj": "gated-relu"`: {Gated, activation.ReLU, false},
	} {
		a := resolve(t, `{"model_type": "t5", "num_layers": 2`+config+"}")
		if a.MLP != want.mlp || a.Activation != want.act || (a.LogitScale != 1) != want.scaled {
			t.Errorf("%s: %s, %s, logits times %g", config, a.MLP, a.Activation, a.LogitScale)
		}
		if a.Layers != 2 || a.EncoderLayers != 2 || a.Encoder().LogitScale != 1 || a.Encoder().Causal {
			t.Errorf("%s: %d and %d layers, the encoder %+v", config, a.Layers, a.EncoderLayers, a.Encoder())
		}
	}
}

// TestSites: config.json gives the KV heads of each kind of attention, and the sites decide which of them a conversion changes.
func TestSites(t *testing.T) {
	a := resolve(t, `{"model_type": "t5", "num_heads": 12, "num_key_value_heads": 6,
		"num_key_value_heads_by_site": {"decoder_self": 6, "cross": 4, "encoder_self": 12}}`)
	if a.KVHeads != 6 || a.CrossKVHeads != 4 || a.EncoderKVHeads != 12 || a.Encoder().KVHeads != 12 {
		t.Errorf("KV heads %d, %d, %d", a.KVHeads, a.CrossKVHeads, a.EncoderKVHeads)
	}
	if got := a.LegalGroups(); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("legal groups %v", got)
	}
	b, all := a.WithKVHeads(2), a.WithKVHeads(1, a.Sites()...)
	if b.KVHeads != 2 || b.CrossKVHeads != 2 || b.EncoderKVHeads != 12 || all.EncoderKVHeads != 1 || a.KVHeads != 6 {
		t.Errorf("by default %d, %d, %d; all %d", b.KVHeads, b.CrossKVHeads, b.EncoderKVHeads, all.EncoderKVHeads)
	}
	bert := resolve(t, `{"model_type": "bert"}`)
	if !slices.Equal(bert.Sites(), []Site{EncoderSelf}) || bert.KVBytesPerToken(2) != 0 || bert.WithKVHeads(3).KVHeads != 3 {
		t.Errorf("BERT has %v, %d bytes", bert.Sites(), bert.KVBytesPerToken(2))
	}
}

// TestOptionalTensors: T5's head decides whether it is tied, BERT's whether there is one.
func TestOptionalTensors(t *testing.T) {
	shapes := func(a *Arch, without string) map[string][]int {
		tensors, err := a.Tensors()
		if err != nil {
			t.Fatal(err)
		}
		m := map[string][]int{}
		for _, x := range tensors {
			if without == "" || !strings.HasPrefix(x.Name, without) {
				m[x.Name] = x.Shape
			}
		}
		return m
	}
	for _, c := range []struct {
		config, without string
		tied, headless  bool
	}{
		{`{"model_type": "t5"}`, "", false, false},
		{`{"model_type": "t5"}`, "lm_head", true, false},
		{`{"model_type": "bert"}`, "", true, false},
		{`{"model_type": "bert"}`, "cls.", true, true},
	} {
		a := resolve(t, c.config)
		if err := a.Bind(shapes(a, c.without)); err != nil || a.Tied != c.tied || a.Headless != c.headless {
			t.Errorf("%s without %q: tied %v, headless %v, %v", c.config, c.without, a.Tied, a.Headless, err)
		}
	}
	a := resolve(t, `{"model_type": "bert"}`)
	if err := a.Bind(shapes(a, "cls.predictions.transform.dense")); err == nil || !strings.Contains(err.Error(), "missing: cls.predictions.transform.dense.weight") {
		t.Errorf("half a head: %v", err)
	}
}

func TestEncodersRefuse(t *testing.T) {
	for config, want := range map[string]string{
		`{"model_type": "t5", "is_encoder_decoder": false}`:                 "convert the whole model",
		`{"model_type": "t5", "relative_attention_max_distance": 16}`:       "32 relative attention buckets up to distance 16",
		`{"model_type": "t5", "feed_forward_proj": "gated-mish"}`:           "gated-mish",
		`{"model_type": "t5", "num_key_value_heads_by_site": {"cross": 3}}`: "3 kv heads do not divide 8 heads (cross attention)",
		`{"model_type": "bert", "position_embedding_type": "relative_key"}`: "relative positions in BERT",
		`{"model_type": "bert", "is_decoder": true}`:                        "BERT as a decoder",
	} {
		if _, err := Resolve([]byte(config), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", config, err, want)
		}
	}
}

// TestOldNorms: the first BERTs call the weights of norms gamma and beta.
func TestOldNorms(t *testing.T) {
	a := resolve(t, `{"model_type": "bert", "num_hidden_layers": 1}`)
	tensors, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	shapes, old := map[string][]int{}, 0
	for _, x := range tensors {
		if name, ok := strings.CutSuffix(x.Name, "LayerNorm.weight"); ok {
			x.Name, old = name+"LayerNorm.gamma", old+1
		} else if name, ok := strings.CutSuffix(x.Name, "LayerNorm.bias"); ok {
			x.Name, old = name+"LayerNorm.beta", old+1
		}
		shapes[x.Name] = x.Shape
	}
	if err := a.Bind(shapes); err != nil || old != 8 {
		t.Errorf("%d weights of norms: %v", old, err)
	}
}
