package azure

import (
	"net/http"
	"time"
)

var vectorStores = collection{
	path: "vector_stores", action: "OpenAI/assistants/vector-stores", object: "vector_store", prefix: "vs_",
	create: func(_ *exchange, o object) {
		files, _ := o["file_ids"].([]any)
		o["status"] = "completed"
		o["usage_bytes"] = 0
		o["last_active_at"] = time.Now().Unix()
		o["file_counts"] = object{"total": len(files), "completed": len(files), "in_progress": 0, "failed": 0, "cancelled": 0}
	},
}

var vectorStoreFiles = collection{
	path: "vector_stores/{vector_store_id}/files", action: "OpenAI/assistants/vector-stores", object: "vector_store.file", prefix: "file-",
	create: func(_ *exchange, o object) {
		if id, ok := o["file_id"].(string); ok {
			o["id"] = id
		}
		o["status"] = "completed"
	},
}

var vectorStoreBatches = collection{
	path: "vector_stores/{vector_store_id}/file_batches", action: "OpenAI/assistants/vector-stores", object: "vector_store.file_batch", prefix: "vsfb_",
	create: func(_ *exchange, o object) { o["status"] = "completed" },
}

// searchVectorStore finds one passage, which repeats the question.
func searchVectorStore(x *exchange) {
	sent, ok := x.fields()
	if !ok {
		return
	}
	if _, _, ok := x.findAbove(); !ok {
		return
	}
	query, _ := sent["query"].(string)
	x.json(http.StatusOK, object{
		"object": "vector_store.search_results.page", "search_query": []string{query}, "has_more": false, "next_page": nil,
		"data": []object{{
			"file_id": "file-emulated", "filename": "emulated.txt", "score": 1.0, "attributes": object{},
			"content": []object{{"type": "text", "text": Reply("vector store", query)}},
		}},
	})
}
