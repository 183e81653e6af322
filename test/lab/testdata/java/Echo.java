import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.slf4j.LoggerFactory;

/** Answers each line with the first argument and the line, and the end of its input with code 7. */
public final class Echo {
    private Echo() {}

    public static void main(String[] args) throws IOException {
        LoggerFactory.getLogger(Echo.class).warn("a library answers");
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            System.out.println(args[0] + " " + line);
        }
        System.exit(7);
    }
}
