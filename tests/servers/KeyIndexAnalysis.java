package sonde;

import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.email.UAX29URLEmailTokenizer;
import org.apache.lucene.analysis.miscellaneous.RemoveDuplicatesTokenFilter;
import org.apache.lucene.analysis.pattern.PatternCaptureGroupTokenFilter;
import org.elasticsearch.index.analysis.TokenFilterFactory;
import org.elasticsearch.index.analysis.TokenizerFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.plugins.Plugin;

/** The analysis parts that Elasticsearch's index of API keys names and its test archive lacks. */
public class KeyIndexAnalysis extends Plugin implements AnalysisPlugin {
    private static TokenFilterFactory filter(String name, UnaryOperator<TokenStream> make) {
        return new TokenFilterFactory() {
            @Override
            public String name() {
                return name;
            }

            @Override
            public TokenStream create(TokenStream from) {
                return make.apply(from);
            }
        };
    }

    private static Pattern[] patterns(List<String> texts) {
        return texts.stream().map(Pattern::compile).toArray(Pattern[]::new);
    }

    @Override
    public Map<String, AnalysisProvider<TokenFilterFactory>> getTokenFilters() {
        return Map.of("unique", (index, environment, name, settings) -> filter(name, RemoveDuplicatesTokenFilter::new),
            "pattern_capture", AnalysisPlugin.requiresAnalysisSettings((index, environment, name, settings) -> {
                Pattern[] wanted = patterns(settings.getAsList("patterns"));
                boolean keep = settings.getAsBoolean("preserve_original", true);
                return filter(name, from -> new PatternCaptureGroupTokenFilter(from, keep, wanted));
            }));
    }

    @Override
    public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
        return Map.of("uax_url_email",
            (index, environment, name, settings) -> TokenizerFactory.newFactory(name, UAX29URLEmailTokenizer::new));
    }
}
