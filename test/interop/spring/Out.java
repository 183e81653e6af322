import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;

/** Lines of JSON for the test that started the program. */
final class Out {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Out() {}

    static synchronized void print(Map<String, Object> line) {
        try {
            System.out.println(JSON.writeValueAsString(line));
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
    }

    static Map<String, Object> record(ConsumerRecord<byte[], byte[]> r) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("topic", r.topic());
        line.put("partition", r.partition());
        line.put("offset", r.offset());
        line.put("timestamp", r.timestamp());
        line.put("key", base64(r.key()));
        line.put("value", base64(r.value()));
        List<Map<String, Object>> headers = new ArrayList<>();
        for (Header h : r.headers()) {
            Map<String, Object> header = new LinkedHashMap<>();
            header.put("name", h.key());
            header.put("value", base64(h.value()));
            headers.add(header);
        }
        line.put("headers", headers);
        return line;
    }

    private static String base64(byte[] b) {
        return b == null ? null : Base64.getEncoder().encodeToString(b);
    }
}
