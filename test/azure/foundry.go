package azure

import (
	"net/http"
)

// rerank is Cohere's API on Foundry: the documents come back in the order they
// were sent, each a little less relevant than the one before.
func rerank(x *exchange) {
	var q struct {
		Model           string `json:"model"`
		Query           string `json:"query"`
		Documents       []any  `json:"documents"`
		TopN            int    `json:"top_n"`
		ReturnDocuments bool   `json:"return_documents"`
	}
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	results := []object{}
	for i, document := range q.Documents[:min(orElse(q.TopN, len(q.Documents)), len(q.Documents))] {
		result := object{"index": i, "relevance_score": 1 / float64(i+1)}
		if text, ok := document.(string); ok && q.ReturnDocuments {
			document = object{"text": text}
		}
		if q.ReturnDocuments {
			result["document"] = document
		}
		results = append(results, result)
	}
	x.json(http.StatusOK, object{
		"id": newGUID(), "results": results,
		"meta": object{"api_version": object{"version": "2"}, "billed_units": object{"search_units": 1}},
	})
}

// modelInfo describes the model behind a Foundry endpoint.
func modelInfo(x *exchange) {
	x.json(http.StatusOK, object{"model_name": "gpt-4o", "model_type": "chat-completion", "model_provider_name": "OpenAI"})
}

// cohereEmbed is Cohere's own shape of an embedding.
func cohereEmbed(x *exchange) {
	var q struct {
		Model string   `json:"model"`
		Texts []string `json:"texts"`
	}
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	vectors := [][]float32{}
	for _, text := range q.Texts {
		vectors = append(vectors, embed(text, defaultDimensions))
	}
	x.json(http.StatusOK, object{"id": newGUID(), "texts": q.Texts, "embeddings": object{"float": vectors}, "response_type": "embeddings_by_type"})
}

// imageEmbeddings takes pictures as data URLs, alone or with a text.
func imageEmbeddings(x *exchange) {
	var q struct {
		Model string `json:"model"`
		Input []struct {
			Image string `json:"image"`
			Text  string `json:"text"`
		} `json:"input"`
	}
	if !x.decode(&q) || !x.findDeployment(q.Model) {
		return
	}
	data := []object{}
	for i, in := range q.Input {
		data = append(data, object{"object": "embedding", "index": i, "embedding": embed(in.Image+in.Text, defaultDimensions)})
	}
	x.json(http.StatusOK, object{
		"id": newGUID(), "object": "list", "data": data, "model": x.model,
		"usage": object{"prompt_tokens": len(q.Input), "completion_tokens": 0, "total_tokens": len(q.Input)},
	})
}
