package azure

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
)

type embeddingRequest struct {
	Model          string  `json:"model"`
	Input          prompts `json:"input"`
	Dimensions     int     `json:"dimensions"`
	EncodingFormat string  `json:"encoding_format"`
}

const (
	defaultDimensions = 1536
	maxDimensions     = 3072
)

func embeddings(x *exchange) {
	var q embeddingRequest
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	dimensions := min(max(1, orElse(q.Dimensions, defaultDimensions)), maxDimensions)
	data, total := []object{}, 0
	for i, input := range q.Input {
		var vector any = embed(input, dimensions)
		if q.EncodingFormat == "base64" {
			vector = encodeVector(embed(input, dimensions))
		}
		data = append(data, object{"object": "embedding", "index": i, "embedding": vector})
		total += tokens(input)
	}
	x.json(http.StatusOK, object{
		"object": "list", "data": data, "model": x.model,
		"usage": object{"prompt_tokens": total, "total_tokens": total},
	})
}

// embed makes a unit vector that depends on text alone.
func embed(text string, dimensions int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	random := rand.New(rand.NewPCG(h.Sum64(), 0))
	vector, square := make([]float32, dimensions), 0.0
	for i := range vector {
		v := random.NormFloat64()
		vector[i] = float32(v)
		square += v * v
	}
	norm := float32(math.Sqrt(square))
	for i := range vector {
		vector[i] /= norm
	}
	return vector
}

// encodeVector is what openai-python asks for: little-endian float32.
func encodeVector(vector []float32) string {
	b := make([]byte, 0, 4*len(vector))
	for _, v := range vector {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(b)
}
